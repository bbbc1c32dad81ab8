"""Find the orientation of a picture in its metadata: EXIF, and XMP where EXIF has none."""

import re
from collections.abc import Iterable

UPRIGHT = 1
_ORIENTATION_TAG = 0x0112
_MAX_TAGS = 4096
# types of TIFF 6.0 that hold one whole number -> its bytes
_INTEGER_TYPES = {1: 1, 3: 2, 4: 4, 6: 1, 8: 2, 9: 4}
_XMP_ORIENTATION = re.compile(rb"""tiff:Orientation\s*(?:=\s*["']|>)\s*([1-8])\s*["'<]""")


def choose_orientation(exif: Iterable[bytes], xmp: Iterable[bytes]) -> int:
    """Return the first valid orientation (1..8): of the EXIF blocks, then of the XMP packets.

    1 if none is valid. Broken metadata is no reason to refuse an image.
    """
    for block in exif:
        if found := read_exif_orientation(block):
            return found
    for packet in xmp:
        # the packet may be UTF-16
        if match := _XMP_ORIENTATION.search(packet.replace(b"\0", b"")):
            return int(match[1])
    return UPRIGHT


def read_exif_orientation(block: bytes) -> int | None:
    """Return the valid orientation (1..8) in the first directory of an EXIF block, or None.

    The block may begin with the name `Exif`, as in JPEG, or with the TIFF header, as in PNG.
    """
    start = min((at for at in map(block[:16].find, (b"II*\0", b"MM\0*")) if at >= 0), default=-1)
    if start < 0:
        return None
    data, order = block[start:], "little" if block[start : start + 1] == b"I" else "big"

    def read_number(at: int, n_bytes: int) -> int:
        return int.from_bytes(data[at : at + n_bytes], order)  # type: ignore[arg-type]

    first = read_number(4, 4)
    for number in range(min(read_number(first, 2), _MAX_TAGS)):
        at = first + 2 + 12 * number
        if read_number(at, 2) == _ORIENTATION_TAG:
            n_bytes = _INTEGER_TYPES.get(read_number(at + 2, 2), 0)
            value = read_number(at + 8, n_bytes)
            return value if 1 <= value <= 8 else None
    return None
