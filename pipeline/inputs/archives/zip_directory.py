"""Read the central directory at the end of a zip archive.

Section numbers such as 4.3.12 refer to PKWARE's APPNOTE 6.3.10.
"""

import os
import struct
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from pipeline.core.types import InputError, Status
from pipeline.inputs.archives.zip_records import (
    LOCAL_HEADER_SIZE,
    convert_dos_time,
    decode_zip_name,
    widen_fields,
)

# Fields (4.3.12): signature, made by, version, flags, method, time, date, CRC, packed size, size,
# lengths of name, extra and comment, disk, attributes, attributes of the system, offset
_DIRECTORY_ENTRY = struct.Struct("<4s6H3L5H2L")
_END_RECORD = struct.Struct("<4s4H2LH")  # 4.3.16
_END_RECORD_64, _LOCATOR_64 = struct.Struct("<4sQ2H2L4Q"), struct.Struct("<4sLQL")  # 4.3.14, 4.3.15
_MAX_COMMENT_BYTES = 0xFFFF
# Enough for five million members with names of usual length. `check_no_overlap` takes 16 bytes of
# memory for each of them.
_MAX_DIRECTORY_BYTES = 512 << 20
_UNIX = 3  # 4.4.2: number of the system whose file attributes an entry has
_FILE_TYPE, _TYPE_MASK = 0o100000, 0o170000  # bits of st_mode


@dataclass(frozen=True)
class ZipDirectory:
    """Position and size of an archive's directory."""

    start: int
    end: int
    shift: int  # number of bytes that were prepended to the archive after it was made
    count: int  # number of members in the end record


@dataclass(frozen=True, slots=True)
class DirectoryEntry:
    """A member as the directory lists it."""

    name: bytes
    offset: int  # position of its local header
    packed_size: int  # bytes
    size: int
    mtime_ns: int
    is_file: bool


def find_directory(file: BinaryIO) -> ZipDirectory:
    """Find the directory from the record at the archive's end. Raises InputError."""
    size = file.seek(0, 2)
    tail_start = max(0, size - _END_RECORD.size - _MAX_COMMENT_BYTES)
    file.seek(tail_start)
    tail = file.read()
    at = tail.rfind(b"PK\5\6")
    if at < 0 or len(tail) - at < _END_RECORD.size:
        raise _diagnose_missing_directory(file, size)

    end = tail_start + at
    *_, count, length, offset, _ = _END_RECORD.unpack_from(tail, at)
    if count == 0xFFFF or 0xFFFFFFFF in (length, offset):
        end, count, length, offset = _read_end_64(file, end) or (end, count, length, offset)
    shift = end - length - offset
    if shift < 0 or length > end:
        raise InputError(Status.CORRUPT, "its directory is not where its end record says")
    if length > _MAX_DIRECTORY_BYTES:
        raise InputError(
            Status.TOO_LARGE,
            f"its directory has {length} bytes, more than the {_MAX_DIRECTORY_BYTES} that are "
            "read; split the archive",
        )
    return ZipDirectory(end - length, end, shift, count)


def _read_end_64(file: BinaryIO, end: int) -> tuple[int, int, int, int] | None:
    """Read the 64-bit end record.

    Returns:
        (end of the directory, number of members, bytes of the directory, its offset); None if the
        archive has no such record.
    """
    file.seek(max(0, end - _LOCATOR_64.size))
    locator = file.read(_LOCATOR_64.size)
    if len(locator) < _LOCATOR_64.size or not locator.startswith(b"PK\6\7"):
        return None
    at = end - _LOCATOR_64.size - _END_RECORD_64.size
    file.seek(max(0, at))
    record = file.read(_END_RECORD_64.size)
    if at < 0 or not record.startswith(b"PK\6\6"):
        raise InputError(Status.CORRUPT, "its 64-bit end record is not where it should be")
    *_, count, length, offset = _END_RECORD_64.unpack(record)
    return at, count, length, offset


def _diagnose_missing_directory(file: BinaryIO, size: int) -> InputError:
    """Return the InputError that says why a file has no end record."""
    file.seek(0)
    signature = file.read(4)
    if size == 0:
        return InputError(Status.EMPTY, "the archive has zero bytes")
    if signature == b"PK\3\4":
        return InputError(
            Status.TRUNCATED,
            "its end is missing, where the directory is; the members listed are those that tell "
            "where the next one begins",
        )
    return InputError(Status.UNSUPPORTED, f"no zip archive (it begins with {signature.hex(' ')})")


def read_directory(file: BinaryIO, directory: ZipDirectory) -> Iterator[DirectoryEntry]:
    """Yield the entries of the directory (4.3.12). Raises InputError where it is damaged."""
    file.seek(directory.start)
    at = directory.start
    while at < directory.end:
        record = file.read(_DIRECTORY_ENTRY.size)
        if len(record) < _DIRECTORY_ENTRY.size or not record.startswith(b"PK\1\2"):
            raise InputError(
                Status.CORRUPT, f"its directory is damaged at byte {at}; what follows is not listed"
            )
        _, made_by, _, flags, _, time, date, _, *rest = _DIRECTORY_ENTRY.unpack(record)
        packed_size, size, n_name, n_extra, n_comment, _, _, attributes, offset = rest
        name, extra = file.read(n_name), file.read(n_extra)
        file.seek(n_comment, os.SEEK_CUR)
        size, packed_size, offset = widen_fields(extra, size, packed_size, offset)
        at += _DIRECTORY_ENTRY.size + n_name + n_extra + n_comment

        mode = attributes >> 16 if made_by >> 8 == _UNIX else 0
        is_file = not name.endswith(b"/") and (mode & _TYPE_MASK) in (0, _FILE_TYPE)
        yield DirectoryEntry(
            decode_zip_name(name, flags),
            directory.shift + offset,
            packed_size,
            size,
            convert_dos_time(date, time),
            is_file,
        )


def check_no_overlap(file: BinaryIO, directory: ZipDirectory) -> None:
    """Raise InputError if members overlap, as in a zip bomb.

    With overlaps, an archive of a few megabytes can list a million large images. A member that
    extends beyond the start of the directory is ignored here, because opening it fails.
    """
    starts, ends = array("q"), array("q")
    try:
        for entry in read_directory(file, directory):
            end = entry.offset + LOCAL_HEADER_SIZE + len(entry.name) + entry.packed_size
            if end <= directory.start:
                starts.append(entry.offset)
                ends.append(end)
    except InputError:  # `read_directory` raises it again after the undamaged entries
        pass

    order = np.argsort(np.asarray(starts, dtype=np.int64), kind="stable")
    sorted_starts = np.asarray(starts, dtype=np.int64)[order]
    sorted_ends = np.asarray(ends, dtype=np.int64)[order]
    if (sorted_ends[:-1] > sorted_starts[1:]).any():
        raise InputError(Status.CORRUPT, "its members overlap, as in a zip bomb; none is read")
