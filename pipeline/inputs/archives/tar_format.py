"""List the members of tar archives, and open one member."""

import tarfile
from collections.abc import Iterator
from io import BufferedReader
from typing import BinaryIO, cast

from pipeline.core.types import InputError, Status
from pipeline.inputs.archives.archive_format import ArchiveFormat, FileSlice, Member
from pipeline.inputs.archives.tar_headers import (
    BLOCK_SIZE,
    END_BLOCK,
    DamagedHeader,
    parse_block,
    read_header,
    round_to_blocks,
)

_CHECKED_PADDING = 1 << 20  # number of bytes after the end mark that are checked to be zero
_NOT_FILES = {
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.LNKTYPE: "a hard link to another member (tar --hard-dereference packs the contents)",
    tarfile.CHRTYPE: "a character device",
    tarfile.BLKTYPE: "a block device",
    tarfile.FIFOTYPE: "a FIFO",
    tarfile.DIRTYPE: "a folder",
}
_COMPRESSED = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\0": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
}


def list_members(file: BinaryIO) -> Iterator[Member]:
    """Yield the members of an archive.

    Raises:
        InputError: The archive is damaged. The members before the damage have been yielded.
    """
    size, offset = file.seek(0, 2), 0
    _check_start(file, size)
    while True:
        try:
            header = read_header(file, offset)
        except DamagedHeader as error:
            raise InputError(
                error.status,
                f"no member's headers at byte {offset} of {size}: {error}; what follows is not "
                "read",
            ) from None
        if header is None:
            return _check_end(file, offset)

        yield header.member
        if header.end_offset > round_to_blocks(size):
            raise InputError(
                Status.TRUNCATED,
                f"the archive ends at byte {size}, within {header.member.name[-100:]!r}; "
                "what follows is not there",
            )
        offset = header.end_offset


def open_member(file: BinaryIO, offset: int, size: int) -> tuple[Member, BinaryIO]:
    """Return the member whose headers begin at `offset`, and its bytes. Raises InputError."""
    try:
        header = read_header(file, max(0, offset))
    except DamagedHeader:
        header = None
    if header is None:
        raise InputError(
            Status.CHANGED, f"no member begins at byte {offset} of the archive any more"
        )
    if header.type in _NOT_FILES:
        raise InputError(Status.NOT_A_FILE, f"{_NOT_FILES[header.type]}, not a regular file")
    if header.is_sparse:
        raise InputError(
            Status.UNSUPPORTED,
            "packed as a sparse file, which is not read; pack it without tar --sparse",
        )

    available = file.seek(0, 2) - header.data_offset
    if header.member.size > available:
        raise InputError(
            Status.TRUNCATED,
            f"its header says {header.member.size} bytes, of which the archive has "
            f"{max(0, available)}",
        )
    contents = BufferedReader(FileSlice(file, header.data_offset, header.member.size))
    return header.member, cast(BinaryIO, contents)


TAR = ArchiveFormat(
    "tar",
    (".tar", ".tgz", ".tbz2", ".txz", ".tzst", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst"),
    list_members,
    open_member,
)


def _check_start(file: BinaryIO, size: int) -> None:
    """Raise InputError if the file is not a tar archive or is compressed."""
    if size == 0:
        raise InputError(Status.EMPTY, "the archive has zero bytes")
    file.seek(0)
    block = file.read(BLOCK_SIZE)
    for signature, name in _COMPRESSED.items():
        if block.startswith(signature):
            raise InputError(
                Status.UNSUPPORTED,
                f"compressed by {name}: its members cannot be read one by one; "
                "decompress the archive first",
            )
    if block != END_BLOCK and parse_block(block) is None:
        status = Status.TRUNCATED if size < BLOCK_SIZE else Status.UNSUPPORTED
        raise InputError(status, f"no tar archive (it begins with {block[:8].hex(' ')})")


def _check_end(file: BinaryIO, offset: int) -> None:
    """Raise InputError if data follows the end mark.

    For example, `cat a.tar b.tar` puts a second archive there.
    """
    file.seek(offset)
    if file.read(_CHECKED_PADDING).strip(b"\0"):
        raise InputError(
            Status.CORRUPT,
            f"something follows the archive's end mark at byte {offset}; it is not read",
        )
