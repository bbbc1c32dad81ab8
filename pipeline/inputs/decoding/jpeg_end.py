"""Find out whether a JPEG file without its end marker has all its pixels.

Such a file is decoded several times, each time with other bytes behind its end. If a pixel depends
on them, the file is cut within its pixels.
"""

import io
import random
import re

import numpy as np
from PIL import Image

from pipeline.inputs.decoding.jpeg_segments import EOI, SOS, iterate_segments

_END = bytes((0xFF, EOI))
_MARKER = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])", re.DOTALL)  # all but restarts
_RESTART = re.compile(rb"\xff([\xd0-\xd7])")
_FILLER_BYTES = 64
_PROGRESSIVE_FRAMES = (0xC2, 0xC6, 0xCA, 0xCE)
_FRAMES = (*range(0xC0, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0))


def has_end(data: bytes) -> bool:
    """Return whether an end marker follows the start of the first scan."""
    scan = find_scan(data)
    return scan is not None and data.find(_END, scan) >= 0


def find_scan(data: bytes) -> int | None:
    """Return the offset of the first scan; None if there is none."""
    for segment in iterate_segments(io.BytesIO(data)):
        if segment.marker == SOS:
            return segment.offset
    return None


def complete_jpeg(data: bytes) -> bytes | None:
    """Return a file that lacks its end marker with one; None if it is cut within its pixels."""
    start = find_scan(data)
    if start is None:
        return None
    data = _strip_padding(data)
    if not _has_all_scans(data, start):
        return None

    try:
        pixels = _decode(data + _END)
        for filler in _make_fillers(data, start):
            if not np.array_equal(_decode(data + filler + _END), pixels):
                return None
    except Exception:  # noqa: BLE001 - hostile bytes raise anything; whatever it is, pixels lack
        return None
    return data + _END


def _decode(data: bytes) -> np.ndarray:
    """Decode with Pillow, which prints no warnings about the bytes behind the pixels."""
    with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
        return np.asarray(image)


def _strip_padding(data: bytes) -> bytes:
    """Remove zeros or 0xFF that fill a file up, and half an end marker.

    One or two zeros stay, because a scan may end in them. So does the zero of a stuffed 0xFF.
    """
    data = data.rstrip(b"\xff")
    stripped = data.rstrip(b"\0")
    if len(data) - len(stripped) <= 2:
        return data
    return stripped + b"\0" if stripped.endswith(b"\xff") else stripped


def _has_all_scans(data: bytes, start: int) -> bool:
    """Return whether the scans bring every coefficient of every component to its last bit."""
    frame, components = _read_frame(data)
    wanted = {(component, k) for component in components for k in range(64)}
    precise: set[tuple[int, int]] = set()
    at = start
    while True:
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        header = data[at + 4 : at + 2 + length]
        count = header[0] if header else 0
        if len(header) < 4 + 2 * count or length < 6:
            return False
        first, last, bits = header[1 + 2 * count :][:3]
        if frame not in _PROGRESSIVE_FRAMES:  # libjpeg ignores these three there
            first, last, bits = 0, 63, 0
        if bits & 0x0F == 0:
            for i in range(count):
                precise.update((header[1 + 2 * i], k) for k in range(first, min(last, 63) + 1))

        at += 2 + length
        while True:  # to the next scan, past tables
            found = _MARKER.search(data, at)
            if found is None:
                return wanted <= precise
            at = found.end() - 2
            if found[1][0] == SOS:
                break
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
            if at > len(data):
                return False


def _read_frame(data: bytes) -> tuple[int, bytes]:
    """Return the marker of the frame and the identifiers of its components."""
    for segment in iterate_segments(io.BytesIO(data)):
        if segment.marker in _FRAMES:
            header = data[segment.offset + 4 : segment.end]
            return segment.marker, header[6::3][: header[5]] if len(header) > 5 else b""
    return 0, b""


def _make_fillers(data: bytes, start: int) -> list[bytes]:
    """Return bytes to put behind the scan that change any pixel still to be decoded."""
    source = random.Random(0)  # noqa: S311 - any bytes will do, the same ones each time

    def make_noise() -> bytes:
        return bytes(source.randrange(255) for _ in range(_FILLER_BYTES))  # never 0xFF

    restarts = _RESTART.findall(data, start)
    following = (restarts[-1][0] - 0xD0 + 1) if restarts else 0
    noise = [
        make_noise() + bytes((0xFF, 0xD0 + (following + i) % 8)) + make_noise() for i in range(8)
    ]
    return [make_noise(), bytes(_FILLER_BYTES), b"".join(noise)]
