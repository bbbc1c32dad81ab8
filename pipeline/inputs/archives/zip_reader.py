"""Zip archives: their members from the directory at the end, and a member's bytes. Section numbers are of PKWARE's APPNOTE
6.3.10.

zipfile makes the archives of tests and judges what is here; it does not read, because it holds a kilobyte for each member,
gives up a whole directory for one bad name, inflates without a limit, and needs the directory again to open a member.
"""

import calendar
import io
import os
import struct
import zlib
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, cast

import numpy as np

from pipeline.core.types import InputError, Status
from pipeline.inputs.archives.archives import LARGEST, NOWHERE, ArchiveFormat, FileSlice, Member

_LOCAL = struct.Struct(
    "<4s5H3L2H"
)  # 4.3.7: signature, version, flags, method, time, date, CRC, packed, size, name, extra
_ENTRY = struct.Struct(
    "<4s6H3L5H2L"
)  # 4.3.12: ... comment, disk, attributes, system's attributes, where it begins
_END = struct.Struct("<4s4H2LH")  # 4.3.16
_END64, _LOCATOR = struct.Struct("<4sQ2H2L4Q"), struct.Struct("<4sLQL")  # 4.3.14, 4.3.15
_LONGEST_COMMENT = 0xFFFF
_LARGEST_DIRECTORY = (
    512 << 20
)  # bytes: five million members with names as usual, and 16 bytes in memory for each
_ENCRYPTED, _LATER, _PATCH, _UTF8 = (
    0x1,
    0x8,
    0x20,
    0x800,
)  # 4.4.4; _LATER: CRC and sizes follow the contents
_STORED, _DEFLATED = 0, 8
_METHODS = {9: "deflate64", 12: "bzip2", 14: "LZMA", 93: "zstd", 95: "xz", 99: "AES"}
_MOST_INFLATED = 1032  # bytes that deflate can make of one (zlib's "maximum compression factor")
_PIECE = 1 << 16  # bytes
_MOST_KEPT = 64 << 20  # bytes of a member; threads hold as much when they decode it
_FILE = 0o100000  # st_mode's type
_UNIX = 3
_OTHER = "its name, size or place is not what the plan lists: the archive has changed, or its directory is wrong"


@dataclass(frozen=True, slots=True)
class _Listed:
    """A member as the directory lists it."""

    name: bytes
    begin: int  # where its own header begins
    packed: int  # bytes
    size: int
    mtime_ns: int
    is_file: bool


@dataclass(frozen=True)
class _Directory:
    start: int
    end: int
    shift: int  # bytes that were put before the archive, after it was made
    count: int  # members, as the end record says


def members(file: BinaryIO) -> Iterator[Member]:
    try:
        directory = _directory(file)
    except InputError as error:
        if error.status is Status.TRUNCATED:
            yield from _from_the_front(file)
        raise
    _check_places(file, directory)
    count = 0
    for one in _listed(file, directory):
        place = min(one.begin, LARGEST) if one.is_file else NOWHERE
        yield Member(one.name, place, min(one.size, LARGEST), one.mtime_ns)
        count += 1
    if count & 0xFFFF != directory.count & 0xFFFF:
        raise InputError(
            Status.CORRUPT,
            f"its directory has {count} members, and says {directory.count} at its end",
        )


def open_member(file: BinaryIO, at: int, size: int) -> tuple[Member, BinaryIO]:
    if at == NOWHERE:
        raise InputError(Status.NOT_A_FILE, "a link, folder or device, not a regular file")
    length = file.seek(0, 2)
    file.seek(min(at, length))
    header = file.read(_LOCAL.size)
    if len(header) < _LOCAL.size or not header.startswith(b"PK\3\4"):
        raise InputError(Status.CHANGED, f"no member begins at byte {at}: {_OTHER}")
    _, _, flags, method, time, date, crc, packed, own_size, n_name, n_extra = _LOCAL.unpack(header)
    name, extra = file.read(n_name), file.read(n_extra)
    start = at + _LOCAL.size + n_name + n_extra
    own_size, packed = _wide(extra, own_size, packed)
    if flags & _LATER:
        own_size, packed = size, length - start
    _check(flags, method, packed, own_size, length - start)
    contents = _Contents(
        file, start, packed, own_size, method == _DEFLATED, None if flags & _LATER else crc
    )
    member = Member(_utf8(name, flags), at, min(own_size, LARGEST), _nanoseconds(date, time))
    return member, cast(BinaryIO, io.BufferedReader(contents, _PIECE))


ZIP = ArchiveFormat("zip", (".zip",), members, open_member)


def _check(flags: int, method: int, packed: int, size: int, there: int) -> None:
    """Raise InputError for what is not read."""
    if flags & _ENCRYPTED:
        raise InputError(Status.UNREADABLE, "encrypted; pack it without a password")
    if flags & _PATCH or method not in (_STORED, _DEFLATED):
        how = "patches" if flags & _PATCH else _METHODS.get(method, f"method {method}")
        raise InputError(
            Status.UNSUPPORTED,
            f"compressed by {how}, which is not read; pack it with deflate, or none",
        )
    if packed > there or (method == _STORED and size > there):
        said = f"its header says {packed} bytes, of which the archive has {max(0, there)}"
        raise InputError(Status.TRUNCATED, said)
    if method == _STORED and not flags & _LATER and packed != size:
        raise InputError(
            Status.CORRUPT, f"stored as it is, but {size} bytes are said to take {packed}"
        )
    if method == _DEFLATED and size > _MOST_INFLATED * (packed + 1):
        raise InputError(
            Status.CORRUPT, f"{packed} bytes cannot become the {size} that its header says"
        )


class _Contents(FileSlice):
    """A member's bytes, inflated as far as they are asked for, so that a bomb costs what is looked at of it. When the last
    is read, length and CRC are checked. What was made is kept, because a TIFF's header leads to and fro; of a large member
    it is not, and to seek back is to begin anew."""

    def __init__(
        self, file: BinaryIO, start: int, packed: int, size: int, deflated: bool, crc: int | None
    ) -> None:
        """`crc` None: it follows the contents."""
        super().__init__(file, start, size)
        self._packed, self._deflated, self._expected = packed, deflated, crc
        self._kept = bytearray() if size <= _MOST_KEPT else None
        self._begin()

    def _begin(self) -> None:
        self._done, self._crc, self._left = 0, 0, self._packed  # bytes made, bytes still to be read
        self._inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        self._file.seek(self._start)

    def next_bytes(self, most: int) -> bytes:
        if most <= 0:  # at its end: nothing need be inflated to say so
            return b""
        if self._kept is not None and self._at < self._done:
            data = bytes(self._kept[self._at : self._at + most])
        else:
            if self._at < self._done:
                self._begin()
            while self._done < self._at:
                self._make(min(_PIECE, self._at - self._done))
            data = self._make(most)
        self._at += len(data)
        return data

    def _make(self, most: int) -> bytes:
        data = self._inflated(most) if self._deflated else self._file.read(most)
        if not data:
            raise InputError(Status.TRUNCATED, f"it ends after {self._done} of {self._size} bytes")
        self._done += len(data)
        if self._kept is not None:
            self._kept += data
        self._crc = zlib.crc32(data, self._crc)
        if self._done == self._size:
            self._check_end()
        return data

    def _inflated(self, most: int) -> bytes:
        """Nothing: the stream ends."""
        data = b""
        while not data and not self._inflate.eof:
            packed = self._inflate.unconsumed_tail or self._file.read(min(_PIECE, self._left))
            if not self._inflate.unconsumed_tail:
                self._left -= len(packed)
            try:
                data = self._inflate.decompress(packed, most)
            except zlib.error as error:
                raise InputError(
                    Status.CORRUPT, f"its compressed bytes are damaged ({error})"
                ) from None
            if not packed and not data:
                break
        return data

    def _check_end(self) -> None:
        if self._deflated and self._inflated(1):
            raise InputError(
                Status.CORRUPT, f"it holds more than the {self._size} bytes that its header says"
            )
        expected = self._crc_behind() if self._expected is None else self._expected
        if self._crc != expected:
            raise InputError(Status.CORRUPT, "its CRC is wrong: the archive is damaged here")

    def _crc_behind(self) -> int:
        """From the data descriptor (4.3.9), whose signature may be missing."""
        behind = (self._inflate.unused_data + self._file.read(8))[:8].removeprefix(b"PK\7\10")
        return int.from_bytes(behind[:4], "little")


def _directory(file: BinaryIO) -> _Directory:
    """Where it is. Raises InputError."""
    size = file.seek(0, 2)
    file.seek(max(0, size - _END.size - _LONGEST_COMMENT))
    before, tail = file.tell(), file.read()
    at = tail.rfind(b"PK\5\6")
    if at < 0 or len(tail) - at < _END.size:
        raise _no_directory(file, size)
    end = before + at
    *_, count, length, offset, _ = _END.unpack_from(tail, at)
    if 0xFFFF in (count,) or 0xFFFFFFFF in (length, offset):
        end, count, length, offset = _end64(file, end) or (end, count, length, offset)
    shift = end - length - offset
    if shift < 0 or length > end:
        raise InputError(Status.CORRUPT, "its directory is not where its end record says")
    if length > _LARGEST_DIRECTORY:
        said = f"its directory has {length} bytes, more than the {_LARGEST_DIRECTORY} that are read; split the archive"
        raise InputError(Status.TOO_LARGE, said)
    return _Directory(end - length, end, shift, count)


def _from_the_front(file: BinaryIO) -> Iterator[Member]:
    """Of an archive without a directory, one after the other, until one does not tell its size, or is cut."""
    at, length = 0, file.seek(0, 2)
    while at < length:
        file.seek(at)
        header = file.read(_LOCAL.size)
        if len(header) < _LOCAL.size or not header.startswith(b"PK\3\4"):
            return
        _, _, flags, _, time, date, _, packed, size, n_name, n_extra = _LOCAL.unpack(header)
        name, extra = file.read(n_name), file.read(n_extra)
        if flags & _LATER or len(name) < n_name:
            return
        size, packed = _wide(extra, size, packed)
        yield Member(_utf8(name, flags), at, min(size, LARGEST), _nanoseconds(date, time))
        at += _LOCAL.size + n_name + n_extra + packed


def _no_directory(file: BinaryIO, size: int) -> InputError:
    file.seek(0)
    begin = file.read(4)
    if size == 0:
        return InputError(Status.EMPTY, "the archive has zero bytes")
    if begin == b"PK\3\4":
        said = "its end is missing, where the directory is; the members listed are those that tell where the next one begins"
        return InputError(Status.TRUNCATED, said)
    return InputError(Status.UNSUPPORTED, f"no zip archive (it begins with {begin.hex(' ')})")


def _end64(file: BinaryIO, end: int) -> tuple[int, int, int, int] | None:
    """(where the directory ends, members, bytes, offset) of an archive with 64-bit sizes; None: it has no such record."""
    file.seek(max(0, end - _LOCATOR.size))
    locator = file.read(_LOCATOR.size)
    if len(locator) < _LOCATOR.size or not locator.startswith(b"PK\6\7"):
        return None
    at = end - _LOCATOR.size - _END64.size
    file.seek(max(0, at))
    record = file.read(_END64.size)
    if at < 0 or not record.startswith(b"PK\6\6"):
        raise InputError(Status.CORRUPT, "its 64-bit end record is not where it should be")
    *_, count, length, offset = _END64.unpack(record)
    return at, count, length, offset


def _listed(file: BinaryIO, directory: _Directory) -> Iterator[_Listed]:
    file.seek(directory.start)
    at = directory.start
    while at < directory.end:
        record = file.read(_ENTRY.size)
        if len(record) < _ENTRY.size or not record.startswith(b"PK\1\2"):
            raise InputError(
                Status.CORRUPT, f"its directory is damaged at byte {at}; what follows is not listed"
            )
        (
            _,
            made_by,
            _,
            flags,
            _,
            time,
            date,
            _,
            packed,
            size,
            n_name,
            n_extra,
            n_comment,
            _,
            _,
            attributes,
            begin,
        ) = _ENTRY.unpack(record)
        name, extra = file.read(n_name), file.read(n_extra)
        file.seek(n_comment, os.SEEK_CUR)
        size, packed, begin = _wide(extra, size, packed, begin)
        at += _ENTRY.size + n_name + n_extra + n_comment
        mode = attributes >> 16 if made_by >> 8 == _UNIX else 0
        is_file = not name.endswith(b"/") and (mode & 0o170000) in (0, _FILE)
        yield _Listed(
            _utf8(name, flags),
            directory.shift + begin,
            packed,
            size,
            _nanoseconds(date, time),
            is_file,
        )


def _check_places(file: BinaryIO, directory: _Directory) -> None:
    """Raise InputError where members overlap: a few megabytes that are a million large images. A member that reaches beyond
    the archive is not counted: it will be a row of its own."""
    begins, ends = array("q"), array("q")
    try:
        for one in _listed(file, directory):
            end = one.begin + _LOCAL.size + len(one.name) + one.packed
            if end <= directory.start:
                begins.append(one.begin)
                ends.append(end)
    except InputError:  # said by who lists the members that come before
        pass
    order = np.argsort(np.asarray(begins, dtype=np.int64), kind="stable")
    sorted_begins, sorted_ends = (np.asarray(one, dtype=np.int64)[order] for one in (begins, ends))
    if (sorted_ends[:-1] > sorted_begins[1:]).any():
        raise InputError(Status.CORRUPT, "its members overlap, as in a zip bomb; none is read")


def _wide(extra: bytes, *values: int) -> list[int]:
    """32-bit fields whose values are in the 64-bit extra field (4.5.3), if they are full of ones."""
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, at)
        if kind == 1:
            wide = iter(
                struct.unpack_from(f"<{min(length, len(extra) - at - 4) // 8}Q", extra, at + 4)
            )
            return [next(wide, value) if value == 0xFFFFFFFF else value for value in values]
        at += 4 + length
    return list(values)


def _utf8(name: bytes, flags: int) -> bytes:
    """Names without the flag are in an old code page (4.4.4, D.1), which the name in a Unix or macOS archive is not."""
    if flags & _UTF8 or name.isascii():
        return name
    try:
        name.decode()
    except UnicodeDecodeError:
        return name.decode("cp437").encode()
    return name


def _nanoseconds(date: int, time: int) -> int:
    """MS-DOS (4.4.6), taken for UTC because it has no zone; 0 for what is no date."""
    year, month, day = 1980 + (date >> 9), date >> 5 & 0xF, date & 0x1F
    if not 1 <= month <= 12 or not 1 <= day <= 31:
        return 0
    return (
        calendar.timegm((year, month, day, time >> 11, time >> 5 & 0x3F, (time & 0x1F) * 2)) * 10**9
    )
