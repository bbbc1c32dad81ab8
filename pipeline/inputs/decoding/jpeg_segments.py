"""Read the segments of a JPEG file (ITU-T T.81, annex B) without decoding it."""

from collections.abc import Iterator

APP1, APP15 = 0xE1, 0xEF  # APP1 has Exif or XMP; no known program uses APP15
SOS, EOI = 0xDA, 0xD9  # start of scan; end of image


def iterate_segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield (offset, marker) of each segment up to and including the start of scan or end of image.

    Stops early if the file ends, or if a marker is missing where a segment must begin.
    """
    at = 2
    while at + 2 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        yield at, marker
        if marker in (EOI, SOS):
            return
        has_length = marker != 0x01 and not 0xD0 <= marker <= 0xD8
        at += 2 + (int.from_bytes(data[at + 2 : at + 4], "big") if has_length else 0)


def hide_exif(data: bytes) -> bytes | None:
    """Return the file with its APP1 segments renamed, so that a decoder finds no orientation.

    Returns None if the file is damaged before the start of scan.
    """
    found = list(iterate_segments(data))
    if not found or found[-1][1] != SOS:
        return None
    offsets = [offset for offset, marker in found if marker == APP1]
    if not offsets:
        return data
    renamed = bytearray(data)
    for offset in offsets:
        renamed[offset + 1] = APP15
    return bytes(renamed)
