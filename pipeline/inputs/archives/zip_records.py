"""Read the binary records of zip archives.

Section numbers such as 4.3.7 refer to PKWARE's APPNOTE 6.3.10.
"""

import calendar
import struct
from dataclasses import dataclass
from typing import BinaryIO

UTF8_FLAG = 0x800  # 4.4.4: the name is UTF-8
LATER_FLAG = 0x8  # 4.4.4: CRC and sizes follow the contents

# Fields (4.3.7): signature, version, flags, method, time, date, CRC, packed size, size, lengths of
# name and extra
_LOCAL_HEADER = struct.Struct("<4s5H3L2H")
LOCAL_HEADER_SIZE = _LOCAL_HEADER.size
_LOCAL_SIGNATURE = b"PK\3\4"
_64_BIT_FIELD = 1  # number of the extra field with 64-bit values


@dataclass(frozen=True)
class LocalHeader:
    """The header before a member's contents. With LATER_FLAG it has no valid sizes and no CRC."""

    name: bytes  # as UTF-8, see `decode_zip_name`
    flags: int
    method: int
    crc: int
    packed_size: int  # bytes in the archive
    size: int  # bytes when unpacked
    mtime_ns: int
    data_offset: int
    is_complete: bool  # False: the archive ends within the name


def read_local_header(file: BinaryIO, offset: int) -> LocalHeader | None:
    """Read the local header at `offset` (4.3.7). Return None if no header begins there."""
    file.seek(offset)
    data = file.read(LOCAL_HEADER_SIZE)
    if len(data) < LOCAL_HEADER_SIZE or not data.startswith(_LOCAL_SIGNATURE):
        return None

    _, _, flags, method, time, date, crc, packed_size, size, n_name, n_extra = _LOCAL_HEADER.unpack(
        data
    )
    name, extra = file.read(n_name), file.read(n_extra)
    size, packed_size = widen_fields(extra, size, packed_size)
    return LocalHeader(
        decode_zip_name(name, flags),
        flags,
        method,
        crc,
        packed_size,
        size,
        convert_dos_time(date, time),
        data_offset=offset + LOCAL_HEADER_SIZE + n_name + n_extra,
        is_complete=len(name) == n_name,
    )


def widen_fields(extra: bytes, *values: int) -> list[int]:
    """Replace each value that is 0xFFFFFFFF by the next one in the 64-bit extra field (4.5.3)."""
    at = 0
    while at + 4 <= len(extra):
        number, length = struct.unpack_from("<HH", extra, at)
        if number == _64_BIT_FIELD:
            n_values = min(length, len(extra) - at - 4) // 8
            wide_values = iter(struct.unpack_from(f"<{n_values}Q", extra, at + 4))
            return [next(wide_values, value) if value == 0xFFFFFFFF else value for value in values]
        at += 4 + length
    return list(values)


def decode_zip_name(name: bytes, flags: int) -> bytes:
    """Return a name as UTF-8.

    A name without the flag is in code page 437 (4.4.4, D.1). Archives made on Unix and
    macOS have UTF-8 names without the flag, so a name that is valid UTF-8 is not converted.
    """
    if flags & UTF8_FLAG or name.isascii():
        return name
    try:
        name.decode()
    except UnicodeDecodeError:
        return name.decode("cp437").encode()
    return name


def convert_dos_time(date: int, time: int) -> int:
    """Convert an MS-DOS date and time (4.4.6) to nanoseconds since 1970.

    The format has no time zone, so UTC is assumed. An invalid date gives 0.
    """
    year, month, day = 1980 + (date >> 9), date >> 5 & 0xF, date & 0x1F
    if not 1 <= month <= 12 or not 1 <= day <= 31:
        return 0
    hour, minute, second = time >> 11, time >> 5 & 0x3F, (time & 0x1F) * 2
    return calendar.timegm((year, month, day, hour, minute, second)) * 10**9
