"""Read the size and orientation of a JPEG XL file from its header (ISO/IEC 18181-1, annex D)."""

from typing import BinaryIO

_CODESTREAM = b"\xff\x0a"
_CONTAINER = b"\0\0\0\x0cJXL \r\n\x87\n"
_HEADER_BYTES = 32
_SIZE_BITS = (9, 13, 18, 30)
_RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))  # width : height
_MAX_BOXES = 1000


class _Bits:
    """Reads numbers of some bits, the lowest bit of a byte first."""

    def __init__(self, data: bytes) -> None:
        self._value, self._left = int.from_bytes(data, "little"), 8 * len(data)

    def read(self, count: int) -> int:
        if count > self._left:
            raise ValueError("the header of the JPEG XL file is cut")
        value = self._value & ((1 << count) - 1)
        self._value >>= count
        self._left -= count
        return value


def read_jxl_header(file: BinaryIO) -> tuple[tuple[int, int], int]:
    """Return the size (H, W) as stored, and the orientation (1..8).

    Raises:
        ValueError: The header is damaged or cut.
    """
    bits = _Bits(_find_codestream(file))
    is_small = bool(bits.read(1))
    height = _read_side(bits, is_small)
    ratio = bits.read(3)
    if ratio:
        across, down = _RATIOS[ratio - 1]
        width = height * across // down
    else:
        width = _read_side(bits, is_small)

    is_plain = bits.read(1)
    has_orientation = not is_plain and bits.read(1)
    return (height, width), 1 + bits.read(3) if has_orientation else 1


def _read_side(bits: _Bits, is_small: bool) -> int:
    return 8 * (1 + bits.read(5)) if is_small else 1 + bits.read(_SIZE_BITS[bits.read(2)])


def _find_codestream(file: BinaryIO) -> bytes:
    """Return the first bytes of the codestream, without its signature."""
    file.seek(0)
    head = file.read(12)
    if head.startswith(_CODESTREAM):
        return head[2:] + file.read(_HEADER_BYTES)
    if head != _CONTAINER:
        raise ValueError("the JPEG XL file has no signature")

    at = len(_CONTAINER)
    for _ in range(_MAX_BOXES):
        file.seek(at)
        head = file.read(16)
        size, kind = int.from_bytes(head[:4], "big"), head[4:8]
        start = 16 if size == 1 else 8
        if size == 1:
            size = int.from_bytes(head[8:16], "big")
        if kind in (b"jxlc", b"jxlp"):
            file.seek(at + start + (4 if kind == b"jxlp" else 0))
            data = file.read(_HEADER_BYTES)
            if data.startswith(_CODESTREAM):
                return data[2:]
        if size < 8:
            break
        at += size
    raise ValueError("the JPEG XL file has no codestream")
