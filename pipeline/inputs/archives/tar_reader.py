"""Tar archives: their members from headers, and a member's bytes. ustar, GNU and pax (POSIX.1-2008, `pax`).

A block is read by tarfile; what joins blocks is here, because tarfile (3.11) ends a listing at a damaged header without a
word, goes in circles at a negative size, and takes room and time with the square of a pax header's length.
"""

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BufferedReader
from typing import BinaryIO, cast

from pipeline.core.types import InputError, Status
from pipeline.inputs.archives.archives import LARGEST, ArchiveFormat, FileSlice, Member

_BLOCK = tarfile.BLOCKSIZE
_ZEROS = bytes(_BLOCK)
_MOST_EXTENDED = (
    1 << 20
)  # bytes of one member's extended headers; extended attributes are up to 64 KiB each
_PADDING = 1 << 20  # bytes looked at behind the end mark
_LONG_NAMES = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
_PAX = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.XGLTYPE)
_NO_FILES = {
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


@dataclass(frozen=True)
class _Header:
    """All headers of one member."""

    member: Member
    kind: bytes
    sparse: bool
    data: int  # where its bytes begin
    end: int  # where the next header may begin


@dataclass
class _Extended:
    """What the headers before a member's own say of it."""

    left: int = _MOST_EXTENDED  # bytes that they may still take
    name: bytes | None = None
    pax: dict[bytes, bytes] = field(default_factory=dict)

    def read(self, file: BinaryIO, size: int) -> bytes:
        self.left -= _blocks(size)
        if size < 0 or self.left < 0:
            raise _Damaged(f"they are more than {_MOST_EXTENDED} bytes")
        data = file.read(_blocks(size))
        if len(data) < size:
            raise _Damaged("the archive ends within them", Status.TRUNCATED)
        return data[:size]


class _Damaged(Exception):
    """No headers of a member where they should be."""

    def __init__(self, message: str, status: Status = Status.CORRUPT) -> None:
        super().__init__(message)
        self.status = status


def members(file: BinaryIO) -> Iterator[Member]:
    size, at = file.seek(0, 2), 0
    _check_start(file, size)
    while True:
        try:
            header = _header(file, at)
        except _Damaged as error:
            said = f"no member's headers at byte {at} of {size}: {error}; what follows is not read"
            raise InputError(error.status, said) from None
        if header is None:
            return _check_end(file, at)
        yield header.member
        if header.end > _blocks(size):
            said = f"the archive ends at byte {size}, within {header.member.name[-100:]!r}; what follows is not there"
            raise InputError(Status.TRUNCATED, said)
        at = header.end


def open_member(file: BinaryIO, at: int, size: int) -> tuple[Member, BinaryIO]:
    try:
        header = _header(file, max(0, at))
    except _Damaged:
        header = None
    if header is None:
        raise InputError(Status.CHANGED, f"no member begins at byte {at} of the archive any more")
    if header.kind in _NO_FILES:
        raise InputError(Status.NOT_A_FILE, f"{_NO_FILES[header.kind]}, not a regular file")
    if header.sparse:
        raise InputError(
            Status.UNSUPPORTED,
            "packed as a sparse file, which is not read; pack it without tar --sparse",
        )
    there = file.seek(0, 2) - header.data
    if header.member.size > there:
        said = (
            f"its header says {header.member.size} bytes, of which the archive has {max(0, there)}"
        )
        raise InputError(Status.TRUNCATED, said)
    return header.member, cast(
        BinaryIO, BufferedReader(FileSlice(file, header.data, header.member.size))
    )


TAR = ArchiveFormat(
    "tar",
    (".tar", ".tgz", ".tbz2", ".txz", ".tzst", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst"),
    members,
    open_member,
)


def _check_start(file: BinaryIO, size: int) -> None:
    """Raise InputError for what is no tar."""
    if size == 0:
        raise InputError(Status.EMPTY, "the archive has zero bytes")
    file.seek(0)
    begin = file.read(_BLOCK)
    for magic, name in _COMPRESSED.items():
        if begin.startswith(magic):
            said = f"compressed by {name}: its members cannot be read one by one; decompress the archive first"
            raise InputError(Status.UNSUPPORTED, said)
    if begin != _ZEROS and _block(begin) is None:
        status = Status.TRUNCATED if size < _BLOCK else Status.UNSUPPORTED
        raise InputError(status, f"no tar archive (it begins with {begin[:8].hex(' ')})")


def _check_end(file: BinaryIO, at: int) -> None:
    """Raise InputError where something follows the end mark: another archive, by `cat a.tar b.tar`."""
    file.seek(at)
    if file.read(_PADDING).strip(b"\0"):
        raise InputError(
            Status.CORRUPT, f"something follows the archive's end mark at byte {at}; it is not read"
        )


def _header(file: BinaryIO, at: int) -> _Header | None:
    """The member whose first header begins at `at`; None for the end mark."""
    file.seek(at)
    extended, position = _Extended(), at
    while True:
        block = file.read(_BLOCK)
        if block == _ZEROS:
            return None
        info = _block(block)
        if info is None:
            if len(block) < _BLOCK:
                raise _Damaged("the archive ends there, without its end mark", Status.TRUNCATED)
            raise _Damaged("a checksum is wrong")
        if info.type not in (*_LONG_NAMES, *_PAX):
            return _member(file, at, position, block, info, extended)
        data = extended.read(file, info.size)
        position += _BLOCK + _blocks(info.size)
        if info.type == tarfile.GNUTYPE_LONGNAME:
            extended.name = data.partition(b"\0")[0]
        elif (
            info.type in _PAX and info.type != tarfile.XGLTYPE
        ):  # what is said of all members is no member's name or size
            extended.pax |= _records(data)


def _member(
    file: BinaryIO, at: int, position: int, block: bytes, info: tarfile.TarInfo, extended: _Extended
) -> _Header:
    """`position`: where its own header begins, which is `block`; `at`: the first one."""
    pax = extended.pax
    data, more = position + _BLOCK, info.type == tarfile.GNUTYPE_SPARSE and block[482]
    while more:  # blocks of an old GNU sparse file's map
        more = extended.read(file, _BLOCK)[504]
        data += _BLOCK
    name = (
        pax.get(b"GNU.sparse.name")
        or pax.get(b"path")
        or extended.name
        or info.name.encode("utf-8", "surrogateescape")
    )
    size = _number(pax[b"size"]) if b"size" in pax else info.size
    if size < 0:
        raise _Damaged(f"a size of {size} bytes")
    has_data = (
        info.isreg()
        or info.type not in tarfile.SUPPORTED_TYPES
        or info.type == tarfile.GNUTYPE_SPARSE
    )
    sparse = info.type == tarfile.GNUTYPE_SPARSE or any(
        key.startswith(b"GNU.sparse.") for key in pax
    )
    mtime = _nanoseconds(pax.get(b"mtime")) or int(info.mtime) * 10**9
    member = Member(name, at, min(size, LARGEST), mtime if 0 <= mtime <= LARGEST else 0)
    return _Header(member, info.type, sparse, data, data + (_blocks(size) if has_data else 0))


def _block(block: bytes) -> tarfile.TarInfo | None:
    try:
        return tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except (tarfile.HeaderError, ValueError, IndexError):
        return None


def _records(data: bytes) -> dict[bytes, bytes]:
    """A pax header's `<length> <keyword>=<value>\\n`, the length that of the whole record."""
    found, at = {}, 0
    while at < len(data) and data[at]:
        digits = data[at : at + 20].partition(b" ")[0]
        end = at + _number(digits)
        keyword, equals, value = data[at + len(digits) + 1 : end - 1].partition(b"=")
        if end > len(data) or data[end - 1 : end] != b"\n" or not equals:
            raise _Damaged("a pax header is not as it should be")
        found[keyword] = value
        at = end
    return found


def _number(digits: bytes) -> int:
    if not digits.isdigit() or len(digits) > 20:
        raise _Damaged(f"{digits[:20]!r} is no number")
    return int(digits)


def _nanoseconds(seconds: bytes | None) -> int:
    """1700000000.25 -> ..., 0 for what is no time after 1970."""
    whole, _, fraction = (seconds or b"").partition(b".")
    parts = whole, fraction[:9].ljust(9, b"0")
    return int(b"".join(parts)) if all(part.isdigit() and len(part) < 20 for part in parts) else 0


def _blocks(size: int) -> int:
    """Bytes that `size` bytes take in an archive."""
    return -(-size // _BLOCK) * _BLOCK
