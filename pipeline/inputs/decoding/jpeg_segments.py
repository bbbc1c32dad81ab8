"""Read the segments of a JPEG file (ITU-T T.81, annex B) without decoding it."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from pipeline.inputs.decoding.pieces import Piece, join_pieces
from pipeline.inputs.decoding.separated import MAX_METADATA_BLOCKS, Separated

SOI, EOI, SOS, DNL = 0xD8, 0xD9, 0xDA, 0xDC
APP0, APP1, APP14, APP15, COM = 0xE0, 0xE1, 0xEE, 0xEF, 0xFE
_METADATA = (*range(APP0, APP15 + 1), COM)
# A marker that begins a segment with a length, for files with bytes between two segments.
_NEXT_MARKER = re.compile(rb"\xff[\xc0-\xc7\xc9-\xcf\xda-\xdd\xe0-\xef\xfe]")
_SEARCHED_BYTES = 1 << 17  # a segment has at most half as many
_EXIF, _XMP = b"Exif\0", b"http://ns.adobe.com/xap/1.0/\0"


@dataclass(frozen=True)
class Segment:
    """One segment. `length` counts the marker's two bytes and all that follow."""

    offset: int
    marker: int
    length: int

    @property
    def end(self) -> int:
        return self.offset + self.length


def iterate_segments(file: BinaryIO) -> Iterator[Segment]:
    """Yield each segment up to and including the start of scan or end of image.

    Bytes between two segments are passed over, as libjpeg does. The last segment may extend past
    the file's end.
    """
    at = 2
    while True:
        file.seek(at)
        head = file.read(4)
        if len(head) < 2:
            return
        if head[0] != 0xFF or head[1] == 0:
            found = _NEXT_MARKER.search(head + file.read(_SEARCHED_BYTES))
            if found is None:
                return
            at += found.start()
            continue
        marker = head[1]
        if marker == 0xFF:  # fill byte
            at += 1
            continue

        has_length = marker not in (0x01, EOI) and not 0xD0 <= marker <= SOI
        length = 2 + (max(2, int.from_bytes(head[2:], "big")) if has_length else 0)
        yield Segment(at, marker, length)
        if marker in (EOI, SOS):
            return
        at += length


def separate_jpeg(file: BinaryIO) -> Separated:
    """Return the file without profiles, EXIF, XMP and comments, and the orientation.

    The orientation is that of EXIF, else of XMP. What is kept of the application data decides how
    colours are stored: JFIF (APP0) and Adobe (APP14).
    """
    size = file.seek(0, 2)
    pieces: list[Piece] = [(0, min(2, size))]
    exif: list[bytes] = []
    xmp: list[bytes] = []
    for segment in iterate_segments(file):
        length = min(segment.end, size) - segment.offset
        if segment.marker == SOS:
            length = size - segment.offset
        if segment.marker not in _METADATA:
            pieces.append((segment.offset, length))
            continue

        file.seek(segment.offset + 4)
        content = file.read(length - 4)
        if segment.end > size or _decides_colours(segment.marker, content):
            pieces.append((segment.offset, length))
        elif segment.marker == APP1 and len(exif) + len(xmp) < MAX_METADATA_BLOCKS:
            if content.startswith(_EXIF):
                exif.append(content)
            elif content.startswith(_XMP):
                xmp.append(content)
    return Separated.from_blocks(join_pieces(file, pieces), exif, xmp)


def _decides_colours(marker: int, content: bytes) -> bool:
    """Return whether libjpeg uses the segment. It ignores one that is too short."""
    if marker == APP0:
        return content.startswith(b"JFIF\0") and len(content) >= 14
    return marker == APP14 and content.startswith(b"Adobe") and len(content) >= 12
