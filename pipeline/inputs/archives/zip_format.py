"""List the members of zip archives from the directory, and open one member.

The standard library's `zipfile` is not used. It needs a kilobyte of memory for each member, rejects
a whole directory because of one bad name, inflates without a limit, and reads the directory again
to open a member. Tests compare the results with those of `zipfile`.
"""

import io
from collections.abc import Iterator
from typing import BinaryIO, cast

from pipeline.core.types import InputError, Status
from pipeline.inputs.archives.archive_format import (
    MAX_SIZE,
    NOT_A_FILE_OFFSET,
    ArchiveFormat,
    Member,
)
from pipeline.inputs.archives.zip_contents import CHUNK_BYTES, ZipContents
from pipeline.inputs.archives.zip_directory import (
    check_no_overlap,
    find_directory,
    read_directory,
)
from pipeline.inputs.archives.zip_records import LATER_FLAG, LocalHeader, read_local_header

_ENCRYPTED_FLAG, _PATCH_FLAG = 0x1, 0x20  # 4.4.4
_STORED, _DEFLATED = 0, 8  # 4.4.5
_OTHER_METHODS = {9: "deflate64", 12: "bzip2", 14: "LZMA", 93: "zstd", 95: "xz", 99: "AES"}
_MAX_INFLATION = 1032  # largest ratio of inflated to packed bytes (zlib's documentation)


def list_members(file: BinaryIO) -> Iterator[Member]:
    """Yield the members of an archive.

    Raises:
        InputError: The archive is damaged. The members before the damage have been yielded.
    """
    try:
        directory = find_directory(file)
    except InputError as error:
        if error.status is Status.TRUNCATED:
            yield from _list_without_directory(file)
        raise

    check_no_overlap(file, directory)
    count = 0
    for entry in read_directory(file, directory):
        offset = min(entry.offset, MAX_SIZE) if entry.is_file else NOT_A_FILE_OFFSET
        yield Member(entry.name, offset, min(entry.size, MAX_SIZE), entry.mtime_ns)
        count += 1
    if count & 0xFFFF != directory.count & 0xFFFF:
        raise InputError(
            Status.CORRUPT,
            f"its directory has {count} members, and says {directory.count} at its end",
        )


def _list_without_directory(file: BinaryIO) -> Iterator[Member]:
    """Yield the members of a truncated archive from its local headers.

    Stops at the first member that is cut or whose header does not state the size.
    """
    offset, length = 0, file.seek(0, 2)
    while offset < length:
        header = read_local_header(file, offset)
        if header is None or header.flags & LATER_FLAG or not header.is_complete:
            return
        yield Member(header.name, offset, min(header.size, MAX_SIZE), header.mtime_ns)
        offset = header.data_offset + header.packed_size


def open_member(file: BinaryIO, offset: int, size: int) -> tuple[Member, BinaryIO]:
    """Return the member whose local header begins at `offset`, and its bytes. Raises InputError.

    `size` is the member's size in the directory. It is used if the local header has no size.
    """
    if offset == NOT_A_FILE_OFFSET:
        raise InputError(Status.NOT_A_FILE, "a link, folder or device, not a regular file")
    length = file.seek(0, 2)
    header = read_local_header(file, min(offset, length))
    if header is None:
        raise InputError(
            Status.CHANGED,
            f"no member begins at byte {offset}: its name, size or place is not what the plan "
            "lists: the archive has changed, or its directory is wrong",
        )

    available = length - header.data_offset
    is_later = bool(header.flags & LATER_FLAG)
    member_size, packed_size = (size, available) if is_later else (header.size, header.packed_size)
    _check_readable(header, packed_size, member_size, available)
    contents = ZipContents(
        file,
        header.data_offset,
        packed_size,
        member_size,
        header.method == _DEFLATED,
        None if is_later else header.crc,
    )
    member = Member(header.name, offset, min(member_size, MAX_SIZE), header.mtime_ns)
    return member, cast(BinaryIO, io.BufferedReader(contents, CHUNK_BYTES))


ZIP = ArchiveFormat("zip", (".zip",), list_members, open_member)


def _check_readable(header: LocalHeader, packed_size: int, size: int, available: int) -> None:
    """Raise InputError if the member must not be read.

    `available` is the number of bytes from the start of its contents to the archive's end.
    """
    flags, method = header.flags, header.method
    if flags & _ENCRYPTED_FLAG:
        raise InputError(Status.UNREADABLE, "encrypted; pack it without a password")
    if flags & _PATCH_FLAG or method not in (_STORED, _DEFLATED):
        is_patch = flags & _PATCH_FLAG
        name = "patches" if is_patch else _OTHER_METHODS.get(method, f"method {method}")
        raise InputError(
            Status.UNSUPPORTED,
            f"compressed by {name}, which is not read; pack it with deflate, or none",
        )

    if packed_size > available or (method == _STORED and size > available):
        raise InputError(
            Status.TRUNCATED,
            f"its header says {packed_size} bytes, of which the archive has {max(0, available)}",
        )
    if method == _STORED and not flags & LATER_FLAG and packed_size != size:
        raise InputError(
            Status.CORRUPT, f"stored as it is, but {size} bytes are said to take {packed_size}"
        )
    if method == _DEFLATED and size > _MAX_INFLATION * (packed_size + 1):
        raise InputError(
            Status.CORRUPT, f"{packed_size} bytes cannot become the {size} that its header says"
        )
