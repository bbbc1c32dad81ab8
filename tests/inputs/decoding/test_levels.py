"""`levels` on PNG, PPM and plain arrays; the warnings about dark files and several pages."""

import io
import logging
import struct
import zlib

import cv2
import numpy as np
import pytest

from pipeline.core.types import InputError
from pipeline.inputs.decoding.deep_samples import read_deep_samples
from pipeline.inputs.decoding.image import CpuImageDecoder, decode_image
from pipeline.inputs.decoding.levels import map_levels
from pipeline.inputs.decoding.pixel_options import PixelOptions
from tests.helpers.metadata import make_chunk
from tests.helpers.pictures import picture
from tests.helpers.tiffs import BLACK_IS_ZERO, write_tiff

MANY = 1_000_000
COLOURS = np.asarray(picture(37, 26))
GREY = np.asarray(picture(37, 26).convert("L"))
TWELVE_BITS = (0.0, 4095.0)


def as_png(samples):
    bgr = samples[:, :, ::-1] if samples.ndim == 3 else samples
    return cv2.imencode(".png", bgr)[1].tobytes()


def as_ppm(samples, white, plain=False):
    kind = {(2, False): b"P5", (3, False): b"P6", (2, True): b"P2", (3, True): b"P3"}
    head = b"%s\n# a comment\n%d %d\n%d\n" % (
        kind[samples.ndim, plain], samples.shape[1], samples.shape[0], white,
    )  # fmt: skip
    if plain:
        return head + b" ".join(b"%d" % value for value in samples.ravel())
    return head + samples.astype(">u2").tobytes()


def decoded(data, **options):
    return decode_image(data, MANY, PixelOptions(**options)).permute(1, 2, 0).numpy().astype(int)


@pytest.mark.parametrize("values", [COLOURS, GREY])
@pytest.mark.parametrize(
    "write", [as_png, lambda v: as_ppm(v, 65535), lambda v: as_ppm(v, 65535, plain=True)]
)
def test_twelve_bits_in_sixteen(values, write):
    data = write((values.astype(np.uint32) * 4095 // 255).astype(np.uint16))
    expected = np.broadcast_to(np.atleast_3d(values), COLOURS.shape)
    assert decoded(data).max() <= 16, "the default is as before"
    assert np.abs(decoded(data, levels=TWELVE_BITS) - expected).max() <= 1
    automatic = decoded(data, levels="auto")
    assert automatic.min() == 0 and automatic.max() == 255


@pytest.mark.parametrize(("channels", "colour_type"), [(1, 0), (2, 4), (3, 2), (4, 6)])
def test_every_sample_of_a_png_file_is_read_and_alpha_dropped(channels, colour_type):
    samples = np.random.default_rng(0).integers(0, 65536, (9, 7, channels)).astype(np.uint16)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    head = struct.pack(">IIBBBBB", 7, 9, 16, colour_type, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    data = b"\x89PNG\r\n\x1a\n" + b"".join(make_chunk(*chunk) for chunk in chunks)
    colours = samples[:, :, : 3 if channels >= 3 else 1]
    assert np.array_equal(read_deep_samples("PNG", data), colours)


@pytest.mark.parametrize("levels", ["auto", TWELVE_BITS])
def test_eight_bits_stay_as_they_are(levels):
    for data in (as_png(COLOURS), as_png(GREY)):
        assert np.array_equal(decoded(data, levels=levels), decoded(data))


MAPPED = [
    ([0, 100, 200], (0, 200), [0, 128, 255]),
    ([-50, 0, 250, 900], (0, 250), [0, 0, 255, 255]),
    ([7, 7, 7], "auto", [0, 0, 0]),
    ([0.0, 0.5, 1.0, float("nan"), float("inf")], (0, 1), [0, 128, 255, 0, 0]),
    ([0, 65535], "full", [0, 255]),
    ([], "auto", []),
]


@pytest.mark.parametrize(("values", "levels", "expected"), MAPPED)
def test_values_become_brightness(values, levels, expected):
    array = np.array(values).reshape(1, -1, 1)
    found = map_levels(array, PixelOptions(levels=levels), None)
    assert found.dtype == np.uint8 and found.ravel().tolist() == expected


def test_auto_leaves_out_single_defects():
    values = np.linspace(1000, 2000, 10_000).reshape(100, 100, 1)
    values[0, 0], values[50, 50] = 0, 60_000
    found = map_levels(values, PixelOptions(levels="auto"), None)
    assert abs(int(found[99, 0, 0]) - 252) <= 3 and found[50, 50] == 255


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, PixelOptions()),
        ({"levels": [0, 4095], "bands": [3, 2, 1]}, PixelOptions((0.0, 4095.0), (3, 2, 1))),
        ({"levels": "auto", "bands": None}, PixelOptions("auto")),
    ],
)
def test_options_of_a_runs_record(settings, expected):
    assert PixelOptions.from_settings(settings) == expected


def test_dark_files_and_pages_are_said_once(caplog):
    dark = as_png(GREY.astype(np.uint16) * 16)
    black = as_png(np.zeros((4, 4), np.uint16))
    page = {"samples": GREY[:, :, None], "photometric": BLACK_IS_ZERO}
    pages = write_tiff(page, page)
    decoder = CpuImageDecoder()
    decoder.decode_many([dark, as_png(COLOURS), black, pages, dark, write_tiff(page)], MANY)
    with caplog.at_level(logging.WARNING):
        decoder.log_notes()
        decoder.log_notes()
    first, second = caplog.messages
    assert (
        first.startswith("1 file of more than 8 bits came out nearly black") and "levels=" in first
    )
    assert second.startswith("1 file of several pages") and "source.pages=all" in second


def test_nothing_is_said_if_levels_are_given(caplog):
    decoder = CpuImageDecoder(PixelOptions(levels="auto"))
    decoder.decode_many([as_png(GREY.astype(np.uint16) * 16)], MANY)
    decoder.log_notes()
    assert not caplog.messages


@pytest.mark.parametrize("cut", [10, 40, 200])
def test_cut_files(cut):
    for data in (as_png(COLOURS.astype(np.uint16)), as_ppm(COLOURS.astype(np.uint16), 65535)):
        with pytest.raises(InputError):
            decode_image(data[:cut], MANY, PixelOptions(levels="auto"))


def test_the_brightest_value_of_a_ppm_is_white_by_default():
    data = as_ppm((GREY.astype(np.uint32) * 4095 // 255).astype(np.uint16), 4095)
    assert np.abs(decoded(data)[:, :, 0] - GREY).max() <= 1
    assert io.BytesIO(data).read(2) == b"P5"
