"""Read the headers of tar archives: ustar, GNU and pax (POSIX.1-2008, `pax`).

The standard library's `tarfile` parses single blocks. This module joins them, because `tarfile`
(Python 3.11) ends a listing at a damaged header without an error and loops for ever at a negative
size. Its time and memory also grow with the square of the length of a pax header.
"""

import tarfile
from dataclasses import dataclass, field
from typing import BinaryIO

from pipeline.core.types import Status
from pipeline.inputs.archives.archive_format import MAX_SIZE, Member

BLOCK_SIZE = tarfile.BLOCKSIZE
END_BLOCK = bytes(BLOCK_SIZE)
# Limit for the extended headers of one member. One extended attribute may take 64 KiB.
_MAX_EXTENDED_BYTES = 1 << 20
_LONG_NAMES = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
_PAX = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.XGLTYPE)


class DamagedHeader(Exception):
    """The headers of a member are not valid."""

    def __init__(self, message: str, status: Status = Status.CORRUPT) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class TarHeader:
    """All headers of one member."""

    member: Member
    type: bytes  # tarfile's type flag
    is_sparse: bool
    data_offset: int
    end_offset: int  # where the next header may begin


@dataclass
class _ExtendedHeaders:
    """Values from the extended headers, which come before a member's own header."""

    bytes_left: int = _MAX_EXTENDED_BYTES  # how many bytes further headers may take
    name: bytes | None = None
    pax: dict[bytes, bytes] = field(default_factory=dict)

    def read(self, file: BinaryIO, size: int) -> bytes:
        """Return the next `size` bytes, and move the file to the end of the last block."""
        self.bytes_left -= round_to_blocks(size)
        if size < 0 or self.bytes_left < 0:
            raise DamagedHeader(f"they are more than {_MAX_EXTENDED_BYTES} bytes")
        data = file.read(round_to_blocks(size))
        if len(data) < size:
            raise DamagedHeader("the archive ends within them", Status.TRUNCATED)
        return data[:size]


def read_header(file: BinaryIO, offset: int) -> TarHeader | None:
    """Read all headers of the member whose first header begins at `offset`.

    Returns:
        The headers, or None if the end mark is at `offset`.

    Raises:
        DamagedHeader: No valid header begins there.
    """
    file.seek(offset)
    extended, position = _ExtendedHeaders(), offset
    while True:
        block = file.read(BLOCK_SIZE)
        if block == END_BLOCK:
            return None
        info = parse_block(block)
        if info is None and len(block) < BLOCK_SIZE:
            raise DamagedHeader("the archive ends there, without its end mark", Status.TRUNCATED)
        if info is None:
            raise DamagedHeader("a checksum is wrong")
        if info.type not in (*_LONG_NAMES, *_PAX):
            return _read_own_header(file, offset, position, block, info, extended)

        data = extended.read(file, info.size)
        position += BLOCK_SIZE + round_to_blocks(info.size)
        if info.type == tarfile.GNUTYPE_LONGNAME:
            extended.name = data.partition(b"\0")[0]
        elif info.type in _PAX and info.type != tarfile.XGLTYPE:
            # A global header applies to all members, so it has no name or size of a member.
            extended.pax |= _parse_pax(data)


def _read_own_header(
    file: BinaryIO,
    offset: int,
    position: int,
    block: bytes,
    info: tarfile.TarInfo,
    extended: _ExtendedHeaders,
) -> TarHeader:
    """Combine a member's own header with its extended headers.

    Args:
        offset: Position of the member's first header.
        position: Position of the member's own header. `block` contains its bytes.
    """
    pax = extended.pax
    is_gnu_sparse = info.type == tarfile.GNUTYPE_SPARSE
    data_offset = position + BLOCK_SIZE
    has_more_map = is_gnu_sparse and block[482]
    while has_more_map:  # skip further blocks of the map of an old GNU sparse file
        has_more_map = extended.read(file, BLOCK_SIZE)[504]
        data_offset += BLOCK_SIZE

    name = (
        pax.get(b"GNU.sparse.name")
        or pax.get(b"path")
        or extended.name
        or info.name.encode("utf-8", "surrogateescape")
    )
    size = _parse_number(pax[b"size"]) if b"size" in pax else info.size
    if size < 0:
        raise DamagedHeader(f"a size of {size} bytes")
    mtime = _parse_nanoseconds(pax.get(b"mtime")) or int(info.mtime) * 10**9
    mtime = mtime if 0 <= mtime <= MAX_SIZE else 0

    has_data = info.isreg() or info.type not in tarfile.SUPPORTED_TYPES or is_gnu_sparse
    is_sparse = is_gnu_sparse or any(key.startswith(b"GNU.sparse.") for key in pax)
    end_offset = data_offset + (round_to_blocks(size) if has_data else 0)
    member = Member(name, offset, min(size, MAX_SIZE), mtime)
    return TarHeader(member, info.type, is_sparse, data_offset, end_offset)


def parse_block(block: bytes) -> tarfile.TarInfo | None:
    """Parse one header block. Return None if it is not a valid header."""
    try:
        return tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except (tarfile.HeaderError, ValueError, IndexError):
        return None


def round_to_blocks(size: int) -> int:
    """Return how many bytes contents of `size` bytes take in an archive, in whole blocks."""
    return -(-size // BLOCK_SIZE) * BLOCK_SIZE


def _parse_pax(data: bytes) -> dict[bytes, bytes]:
    r"""Parse the records of a pax header into keyword -> value.

    A record is `<length> <keyword>=<value>\n`; the length is that of the whole record.
    """
    records, at = {}, 0
    while at < len(data) and data[at]:
        digits = data[at : at + 20].partition(b" ")[0]
        end = at + _parse_number(digits)
        keyword, equals, value = data[at + len(digits) + 1 : end - 1].partition(b"=")
        if end > len(data) or data[end - 1 : end] != b"\n" or not equals:
            raise DamagedHeader("a pax header is not as it should be")
        records[keyword] = value
        at = end
    return records


def _parse_number(digits: bytes) -> int:
    if not digits.isdigit() or len(digits) > 20:
        raise DamagedHeader(f"{digits[:20]!r} is no number")
    return int(digits)


def _parse_nanoseconds(seconds: bytes | None) -> int:
    """Convert decimal seconds since 1970, e.g. 1700000000.25, to nanoseconds.

    Returns 0 if the text is missing, invalid or negative.
    """
    whole, _, fraction = (seconds or b"").partition(b".")
    parts = whole, fraction[:9].ljust(9, b"0")
    is_valid = all(part.isdigit() and len(part) < 20 for part in parts)
    return int(b"".join(parts)) if is_valid else 0
