"""Orientation in every place where formats and custom keep it, and which place wins."""

import io
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from pipeline.inputs.decoding.header import read_image_header
from pipeline.inputs.decoding.image import decode_image
from pipeline.inputs.decoding.orientation import choose_orientation, read_exif_orientation
from tests.helpers.metadata import (
    JPEG_XMP,
    insert_chunks,
    insert_segments,
    make_chunk,
    make_exif,
    make_extended_webp,
    make_raw_profile,
    make_xmp,
)
from tests.helpers.tiffs import RGB, write_tiff

MANY = 10_000_000
SIZE = (24, 16)


def encoded(kind, **options):
    buffer = io.BytesIO()
    Image.fromarray(stored()).save(buffer, kind, **options)
    return buffer.getvalue()


def stored():
    """24 x 16, another colour in each corner."""
    array = np.zeros((16, 24, 3), np.uint8)
    array[:8, :12], array[:8, 12:], array[8:, :12] = (250, 20, 20), (20, 250, 20), (20, 20, 250)
    return array


def upright(orientation):
    """The picture as OpenCV turns it: by EXIF in a JPEG of the best quality."""
    data = encoded("JPEG", quality=100, subsampling=0, exif=b"Exif\0\0" + make_exif(orientation))
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]


def itxt(packet, compressed=False):
    text = zlib.compress(packet) if compressed else packet
    return make_chunk(b"iTXt", b"XML:com.adobe.xmp\0" + bytes([compressed, 0]) + b"\0\0" + text)


def raw(name, content, kind=b"zTXt"):
    text = make_raw_profile(name.split()[-1], content)
    packed = b"\0" + zlib.compress(text) if kind == b"zTXt" else text
    return make_chunk(kind, name + b"\0" + packed)


def tiff(orientation=None, xmp=None, **options):
    tags = {}
    if orientation is not None:
        tags[274] = (3, [orientation])
    if xmp is not None:
        tags[700] = (1, xmp)
    return write_tiff({"samples": stored(), "photometric": RGB, "tags": tags}, **options)


def webp(*chunks):
    return make_extended_webp(encoded("WEBP", lossless=True), SIZE, *chunks)


JPEG = encoded("JPEG", quality=100, subsampling=0)
PNG = encoded("PNG")
EXIF = b"Exif\0\0"
PLACES = {
    "JPEG, EXIF": lambda n: insert_segments(JPEG, (0xE1, EXIF + make_exif(n))),
    "JPEG, EXIF, Motorola": lambda n: insert_segments(JPEG, (0xE1, EXIF + make_exif(n, ">"))),
    "JPEG, EXIF, as long": lambda n: insert_segments(JPEG, (0xE1, EXIF + make_exif(n, kind=4))),
    "JPEG, EXIF, as byte": lambda n: insert_segments(JPEG, (0xE1, EXIF + make_exif(n, kind=1))),
    "JPEG, XMP": lambda n: insert_segments(JPEG, (0xE1, JPEG_XMP + make_xmp(n))),
    "JPEG, XMP element": lambda n: insert_segments(JPEG, (0xE1, JPEG_XMP + make_xmp(n, True))),
    "PNG, eXIf before": lambda n: insert_chunks(PNG, make_chunk(b"eXIf", make_exif(n))),
    "PNG, eXIf behind": lambda n: insert_chunks(PNG, b"", make_chunk(b"eXIf", make_exif(n))),
    "PNG, eXIf with a name": lambda n: insert_chunks(PNG, make_chunk(b"eXIf", EXIF + make_exif(n))),
    "PNG, XMP": lambda n: insert_chunks(PNG, itxt(make_xmp(n))),
    "PNG, XMP behind, packed": lambda n: insert_chunks(PNG, b"", itxt(make_xmp(n), True)),
    "PNG, raw profile": lambda n: insert_chunks(
        PNG, raw(b"Raw profile type exif", EXIF + make_exif(n))
    ),
    "PNG, raw profile, plain": lambda n: insert_chunks(
        PNG, raw(b"Raw profile type exif", EXIF + make_exif(n), b"tEXt")
    ),
    "PNG, raw profile, old name": lambda n: insert_chunks(
        PNG, b"", raw(b"Raw profile type APP1", EXIF + make_exif(n))
    ),
    "PNG, raw profile of XMP": lambda n: insert_chunks(
        PNG, raw(b"Raw profile type xmp", make_xmp(n))
    ),
    "WebP, EXIF": lambda n: webp((b"EXIF", make_exif(n))),
    "WebP, EXIF with a name": lambda n: webp((b"EXIF", EXIF + make_exif(n))),
    "WebP, XMP": lambda n: webp((b"XMP ", make_xmp(n))),
    "TIFF, tag": tiff,
    "TIFF, tag, Motorola": lambda n: tiff(n, order=">"),
    "BigTIFF, tag": lambda n: tiff(n, big=True),
    "TIFF, XMP": lambda n: tiff(xmp=make_xmp(n)),
    "AVIF": lambda n: encoded("AVIF", quality=100, subsampling="4:4:4", exif=make_exif(n)),
}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("place", PLACES)
def test_an_orientation_counts_wherever_it_is(place, orientation):
    data = PLACES[place](orientation)
    found = decode_image(data, MANY).permute(1, 2, 0).numpy().astype(int)
    header = read_image_header(io.BytesIO(data), MANY)
    assert header.size_hw == found.shape[:2] == ((24, 16) if orientation >= 5 else (16, 24))
    assert header.orientation == orientation
    assert np.abs(found - upright(orientation)).mean() < 6


DISAGREEING = {  # EXIF, or the format's own tag, wins over XMP; eXIf over the raw profile
    "JPEG": insert_segments(JPEG, (0xE1, JPEG_XMP + make_xmp(3)), (0xE1, EXIF + make_exif(6))),
    "PNG": insert_chunks(
        PNG,
        itxt(make_xmp(3)) + raw(b"Raw profile type exif", make_exif(8)),
        make_chunk(b"eXIf", make_exif(6)),
    ),
    "PNG, raw profile and XMP": insert_chunks(
        PNG, itxt(make_xmp(3)) + raw(b"Raw profile type exif", make_exif(6))
    ),
    "WebP": webp((b"EXIF", make_exif(6)), (b"XMP ", make_xmp(3))),
    "TIFF": tiff(6, make_xmp(3)),
    # one that is not valid does not count
    "JPEG, 0 in EXIF": insert_segments(
        JPEG, (0xE1, EXIF + make_exif(0)), (0xE1, JPEG_XMP + make_xmp(6))
    ),
    "PNG, 9 in eXIf": insert_chunks(PNG, make_chunk(b"eXIf", make_exif(9)) + itxt(make_xmp(6))),
    "TIFF, 0": tiff(0, make_xmp(6)),
    "two EXIF blocks": insert_segments(
        JPEG, (0xE1, EXIF + make_exif(6)), (0xE1, EXIF + make_exif(3))
    ),
}


@pytest.mark.parametrize("case", DISAGREEING)
def test_of_orientations_that_disagree_one_wins(case):
    data = DISAGREEING[case]
    found = decode_image(data, MANY).permute(1, 2, 0).numpy().astype(int)
    assert read_image_header(io.BytesIO(data), MANY).size_hw == (24, 16)
    assert np.abs(found - upright(6)).mean() < 6


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        (b"", None),
        (b"Exif\0\0", None),
        (b"Exif\0\0II*\0\xff\xff\xff\xff", None),
        (b"II*\0\x08\0\0\0\xff\xff", None),
        (make_exif(6), 6),
        (make_exif(6)[:-6], 6),
        (make_exif(0), None),
        (make_exif(9), None),
        (b"Exif\0\0" + make_exif(8, ">"), 8),
        (make_exif(6, kind=4), 6),
    ],
)
def test_the_orientation_of_an_exif_block(block, expected):
    assert read_exif_orientation(block) == expected


@pytest.mark.parametrize(
    ("packet", "expected"),
    [
        (b"", 1),
        (b"<tiff:Orientation>12</tiff:Orientation>", 1),
        (b"tiff:Orientation = '8'", 8),
        (make_xmp(6).decode().encode("utf-16"), 6),
    ],
)
def test_the_orientation_of_an_xmp_packet(packet, expected):
    assert choose_orientation([], [packet]) == expected
