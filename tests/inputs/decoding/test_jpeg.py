import io

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.inputs.decoding import jpeg_decoder
from pipeline.inputs.decoding.jpeg_decoder import decode_jpeg
from pipeline.inputs.decoding.jpeg_segments import (
    APP1,
    EOI,
    SOS,
    iterate_segments,
    separate_jpeg,
)
from tests.helpers.pictures import picture

SOI, APP0, DQT, SOF0, DHT = 0xD8, 0xE0, 0xDB, 0xC0, 0xC4


def encoded(image=None, **options):
    buffer = io.BytesIO()
    (image or picture(41, 30)).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def exif(orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags.tobytes()


def segments(data):
    return [(segment.offset, segment.marker) for segment in iterate_segments(io.BytesIO(data))]


def markers(data):
    return [marker for _, marker in segments(data)]


def hide_exif(data):
    """The file without its metadata."""
    return separate_jpeg(io.BytesIO(data)).picture.read()


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", []),
        (b"\xff", []),
        (b"\xff\xd8", []),
        (
            b"\xff\xd8\xff\xe0\x00\x04ab\xff\xdb\x00\x02\xff\xda\x00\x02",
            [(2, APP0), (8, DQT), (12, SOS)],
        ),
        (b"\xff\xd8\xff\xff\xff\xe0\x00\x02\xff\xda\x00\x02", [(4, APP0), (8, SOS)]),  # fill bytes
        (
            b"\xff\xd8\xff\x01\xff\xd0\xff\xda\x00\x02",
            [(2, 0x01), (4, 0xD0), (6, SOS)],
        ),  # markers without a length
        (
            b"\xff\xd8\xff\xe0\x00\x04ab\x00\x00\xff\xda\x00\x02",
            [(2, APP0), (10, SOS)],
        ),  # bytes where a marker must stand are passed over
        (b"\xff\xd8\xff\xe0\xff\xffab", [(2, APP0)]),  # longer than the file
        (b"\xff\xd8\xff\xd9\x00\x00", [(2, EOI)]),
        pytest.param(b"\xff\xd8\xff\xd9", [(2, EOI)]),
    ],
)
def test_segments(data, expected):
    assert segments(data) == expected


@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"quality": 100, "subsampling": 0}, {"exif": exif(6)}]
)
def test_the_segments_of_a_written_file_end_at_its_scan(options):
    data = encoded(**options)
    found = segments(data)
    assert all(data[at] == 0xFF and data[at + 1] == marker for at, marker in found)
    assert found[-1][1] == SOS and [marker for _, marker in found].count(SOS) == 1
    assert (APP1 in markers(data)) == ("exif" in options)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_without_exif_no_orientation_is_left_and_nothing_else_changes(orientation):
    data = encoded(exif=exif(orientation))
    plain = hide_exif(data)
    assert len(plain) < len(data) and APP1 not in markers(plain)
    with Image.open(io.BytesIO(data)) as before, Image.open(io.BytesIO(plain)) as after:
        assert before.getexif().get(0x0112) == orientation
        assert 0x0112 not in after.getexif()
        assert np.array_equal(np.asarray(before), np.asarray(after))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_without_exif_a_decoder_gives_the_pixels_as_stored(orientation):
    image = picture(41, 30)
    turned = decode_jpeg(hide_exif(encoded(image, exif=exif(orientation))))
    assert torch.equal(turned, decode_jpeg(encoded(image)))


def test_without_exif_every_such_segment_goes():
    one = encoded(exif=exif(3))
    at, length = next(
        (at, int.from_bytes(one[at + 2 : at + 4], "big"))
        for at, marker in segments(one)
        if marker == APP1
    )
    two = one[: at + 2 + length] + one[at : at + 2 + length] + one[at + 2 + length :]
    assert markers(two).count(APP1) == 2
    assert APP1 not in markers(hide_exif(two))


def test_a_file_without_exif_is_handed_back():
    data = encoded()
    assert hide_exif(data) == data


@pytest.mark.parametrize(
    "data", [b"", b"\xff\xd8", b"\xff\xd8\xff\xd9", encoded()[:100], b"text" * 20]
)
def test_a_damaged_file_raises_nothing(data):
    assert data.startswith(hide_exif(data))


def variants():
    found = {}
    for name, way in jpeg_decoder.JPEG_LIBRARIES:
        try:
            found[name.split()[0]] = way()
        except (ImportError, RuntimeError, OSError):
            continue
    return found


KINDS = [
    ("RGB", {}),
    ("RGB", {"quality": 100, "subsampling": 0}),
    ("RGB", {"quality": 5, "subsampling": 2}),
    ("RGB", {"progressive": True}),
    ("RGB", {"subsampling": 1}),
    ("L", {}),
    ("CMYK", {}),
]


@pytest.mark.filterwarnings(
    "ignore:.*decode_jpeg.*:UserWarning", "ignore:.*:DeprecationWarning", "ignore:.*:FutureWarning"
)
@pytest.mark.parametrize(("mode", "options"), KINDS)
@pytest.mark.parametrize("size", [(1, 1), (8, 8), (41, 30), (17, 64)])
def test_both_decoders_give_equal_pixels(mode, options, size):
    decoders = variants()
    if len(decoders) < 2:
        pytest.skip(f"only {', '.join(decoders)} works here")
    data = encoded(picture(*size).convert(mode), **options)
    first, second = (decode([data], "cpu")[0] for decode in decoders.values())
    assert first.dtype == second.dtype == torch.uint8 and first.shape == (3, size[1], size[0])
    assert torch.equal(first, second)


@pytest.mark.filterwarnings(
    "ignore:.*decode_jpeg.*:UserWarning", "ignore:.*:DeprecationWarning", "ignore:.*:FutureWarning"
)
@pytest.mark.parametrize("name", ["torchcodec", "torchvision"])
@pytest.mark.parametrize("data", [b"not a JPEG", encoded()[:200], b"\xff\xd8\xff\xd9"])
def test_what_a_decoder_refuses_it_refuses_with_a_named_error(name, data):
    if name not in variants():
        pytest.skip(f"{name} does not work here")
    with pytest.raises((RuntimeError, ValueError)):
        variants()[name]([data], "cpu")


def test_the_chosen_decoder_is_named_with_its_version():
    name, version = jpeg_decoder.JPEG_DECODER.split()
    assert name in variants() and version[0].isdigit()
