"""TIFF: photometric meaning, depth, layout and channels, against two other readers.

The files are written byte by byte. Where OpenCV and ffmpeg agree with each other, we agree with
them. DIFFERING lists the exceptions, which docs/inputs.md explains.
"""

import io

import av
import cv2
import numpy as np
import pytest
from PIL import Image

from pipeline.core.types import InputError, Status
from pipeline.inputs.decoding.header import read_image_header
from pipeline.inputs.decoding.image import decode_image
from pipeline.inputs.decoding.pixel_options import PixelOptions
from tests.helpers.pictures import picture
from tests.helpers.tiffs import (
    BLACK_IS_ZERO,
    CIELAB,
    CMYK,
    PALETTE,
    RGB,
    WHITE_IS_ZERO,
    YCBCR,
    write_tiff,
)

MANY = 1_000_000
SIZE = (37, 26)
COLOURS = np.asarray(picture(*SIZE))
GREY = np.asarray(picture(*SIZE).convert("L"))[:, :, None]
ALPHA = np.linspace(0, 255, GREY.size).reshape(GREY.shape).astype(np.uint8)


def decoded(data, **options):
    """(H, W, 3) int; the header must have told the size beforehand."""
    found = decode_image(data, MANY, PixelOptions(**options))
    assert read_image_header(io.BytesIO(data), MANY).size_hw == tuple(found.shape[1:])
    return found.permute(1, 2, 0).numpy().astype(int)


def by_opencv(data):
    level = cv2.utils.logging.setLogLevel(0) if hasattr(cv2, "utils") else None
    try:
        found = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    finally:
        if level is not None:
            cv2.utils.logging.setLogLevel(level)
    return None if found is None else found[:, :, ::-1].astype(int)


def by_ffmpeg(data):
    try:
        with av.open(io.BytesIO(data), format="tiff_pipe") as container:
            frame = next(container.decode(video=0))
            return frame.to_ndarray(format="rgb24").astype(int)
    except (av.error.FFmpegError, StopIteration, ValueError):
        return None


def others_agree(data):
    """What OpenCV and ffmpeg both read, to one level; None if they differ or one cannot."""
    first, second = by_opencv(data), by_ffmpeg(data)
    if first is None or second is None or first.shape != second.shape:
        return None
    return first if np.abs(first - second).max() <= 1 else None


def deepen(values, bits):
    """8-bit values at another depth."""
    white = (1 << bits) - 1
    kind = np.uint8 if bits <= 8 else np.uint16 if bits <= 16 else np.uint32
    return ((values.astype(np.uint64) * white + 127) // 255).astype(kind)


def at_eight_bits(values, bits):
    """What remains of 8-bit values that were stored at this depth."""
    white = (1 << bits) - 1
    found = (deepen(values, bits).astype(np.int64) * 255 + white // 2) // white
    return np.broadcast_to(found, (*found.shape[:2], 3))


LAYOUTS = {
    "strips": {},
    "big-endian": {"order": ">"},
    "BigTIFF": {"big": True},
    "big-endian BigTIFF": {"big": True, "order": ">"},
    "planar": {"planar": True},
    "deflate": {"deflate": True},
    "deflate, predictor": {"deflate": True, "predictor": 2},
    "tiles": {"tile": 16},
    "planar tiles, predictor": {"planar": True, "tile": 16, "deflate": True, "predictor": 2},
}
WHOLE_BYTES = (8, 16)


def written(samples, photometric, layout="strips", **page):
    options = LAYOUTS[layout]
    of_file = {key: value for key, value in options.items() if key in ("order", "big")}
    of_page = {key: value for key, value in options.items() if key not in of_file}
    return write_tiff(
        {"samples": samples, "photometric": photometric, **of_page, **page}, **of_file
    )


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("bits", [1, 2, 4, 8, 10, 12, 14, 16])
@pytest.mark.parametrize("photometric", [WHITE_IS_ZERO, BLACK_IS_ZERO, RGB])
def test_every_depth_and_layout_means_the_same_picture(photometric, bits, layout):
    if bits not in WHOLE_BYTES and ("predictor" in layout or "tiles" in layout):
        return  # not written by anyone
    source = COLOURS if photometric == RGB else GREY
    samples = deepen(source, bits)
    if photometric == WHITE_IS_ZERO:
        samples = (1 << bits) - 1 - samples
    data = written(samples, photometric, layout, bits=bits)
    found = decoded(data)
    assert np.abs(found - at_eight_bits(source, bits)).max() <= (bits == 16 and photometric == RGB)
    others = others_agree(data)
    assert others is None or np.abs(found - others).max() <= 1


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_palettes(bits, order):
    n_colours = 1 << bits
    random = np.random.default_rng(bits)
    indices = random.integers(0, min(n_colours, 300), GREY.shape)
    indices = indices.astype(np.uint8 if bits <= 8 else np.uint16)
    palette = random.integers(0, 256, (n_colours, 3)).astype(np.uint16)
    page = {"samples": indices, "photometric": PALETTE, "bits": bits}
    data = write_tiff({**page, "tags": {320: (3, (palette * 257).T.ravel().tolist())}}, order=order)
    found = decoded(data)
    assert np.array_equal(found, palette[indices[:, :, 0]])
    others = others_agree(data)
    assert others is None or np.array_equal(found, others)


@pytest.mark.parametrize("layout", ["strips", "big-endian", "planar"])
@pytest.mark.parametrize("bits", [8, 16])
def test_cmyk(bits, layout):
    inks = np.asarray(picture(*SIZE).convert("CMYK")).copy()
    inks[:, :, 3] = 40
    data = written(deepen(inks, bits), CMYK, layout)
    expected = np.asarray(Image.fromarray(inks, "CMYK").convert("RGB"))
    assert np.abs(decoded(data) - expected).max() <= 1
    others = others_agree(data)
    assert others is None or np.abs(decoded(data) - others).max() <= 2


@pytest.mark.parametrize("bits", [8, 16])
def test_cie_lab(bits):
    """Values of known colours, from the tables of sRGB under D50."""
    known = {(100, 0, 0): (255, 255, 255), (0, 0, 0): (0, 0, 0), (53.59, 0, 0): (128, 128, 128),
             (54.29, 80.80, 69.89): (255, 0, 0), (29.57, 68.29, -112.03): (0, 0, 255)}  # fmt: skip
    lab = np.array(list(known))
    scale = 1 if bits == 8 else 256
    lightness = lab[:, :1] * ((1 << bits) - 1) / 100
    samples = np.rint(np.hstack([lightness, lab[:, 1:] * scale])).astype(np.int64)
    samples = (samples % (1 << bits)).astype(f"u{bits // 8}")[None]
    found = decoded(written(samples, CIELAB))[0]
    assert np.abs(found - list(known.values())).max() <= (4 if bits == 8 else 2)


def test_ycbcr():
    samples = np.asarray(picture(*SIZE).convert("YCbCr"))
    data = written(samples, YCBCR, tags={530: (3, [1, 1])})
    assert np.abs(decoded(data) - COLOURS).max() <= 3


EXTRA = {"none said": (), "unspecified": (0,), "premultiplied": (1,), "straight": (2,)}
# OpenCV and ffmpeg show what is stored, multiplied by alpha, although the tag says so.
DIFFERING = ("premultiplied",)


@pytest.mark.parametrize("layout", ["strips", "planar"])
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("photometric", [BLACK_IS_ZERO, RGB])
@pytest.mark.parametrize("kind", EXTRA)
def test_alpha_is_dropped_and_colours_are_straight(kind, photometric, bits, layout):
    source = (COLOURS if photometric == RGB else GREY).astype(float)
    share = ALPHA / 255 if kind == "premultiplied" else 1.0
    stored = np.concatenate(
        [np.rint(source * share * ((1 << bits) - 1) / 255), deepen(ALPHA, bits)], 2
    )
    data = written(stored.astype(f"u{bits // 8}"), photometric, layout, extra=EXTRA[kind])
    found = decoded(data)
    visible = ALPHA[:, :, 0] > 30  # of darker ones too little is left to divide
    difference = np.abs(found - source)[visible if kind == "premultiplied" else ...]
    assert difference.max() <= (8 if kind == "premultiplied" else 1)
    others = others_agree(data)
    if others is not None and kind not in DIFFERING:
        assert np.abs(found - others).max() <= 1


def test_the_order_of_bits():
    mirrored = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
    stored = np.frombuffer(GREY.tobytes().translate(mirrored), np.uint8).reshape(GREY.shape)
    data = written(stored, BLACK_IS_ZERO, tags={266: (3, [2])})
    assert np.array_equal(decoded(data), np.broadcast_to(GREY, COLOURS.shape))
    assert np.array_equal(decoded(data), others_agree(data))


FLOATS = [np.float16, np.float32, np.float64]


@pytest.mark.parametrize("kind", FLOATS)
@pytest.mark.parametrize("photometric", [WHITE_IS_ZERO, BLACK_IS_ZERO, RGB])
@pytest.mark.parametrize(
    ("layout", "predictor"), [("strips", 1), ("big-endian", 1), ("planar", 1), ("tiles", 3)]
)
def test_floats_need_levels(kind, photometric, layout, predictor):
    source = COLOURS if photometric == RGB else GREY
    values = source.astype(np.float64) / 255
    values = (1 - values if photometric == WHITE_IS_ZERO else values).astype(kind)
    data = written(values, photometric, layout, predictor=predictor, deflate=predictor == 3)
    assert np.abs(decoded(data, levels=(0.0, 1.0)) - source).max() <= 1
    with pytest.raises(InputError, match=r"levels=\[0,1\]") as caught:
        decode_image(data, MANY)
    assert caught.value.status is Status.UNSUPPORTED


@pytest.mark.parametrize("kind", [np.int16, np.int32, np.uint32])
def test_whole_numbers_beyond_sixteen_bits_need_levels(kind):
    values = GREY.astype(np.int64) * 100 - (5000 if np.dtype(kind).kind == "i" else -70_000)
    data = written(values.astype(kind), BLACK_IS_ZERO)
    with pytest.raises(InputError, match="levels=auto") as caught:
        decode_image(data, MANY)
    assert caught.value.status is Status.UNSUPPORTED
    low, high = float(values.min()), float(values.max())
    expected = np.rint((values - low) * 255 / (high - low))
    assert np.abs(decoded(data, levels=(low, high)) - expected).max() <= 1


def test_signed_bytes_are_read_as_others_read_them():
    data = written((GREY // 2).astype(np.int8), BLACK_IS_ZERO)
    assert np.array_equal(decoded(data), others_agree(data))


BANDS = np.concatenate([COLOURS, GREY, 255 - GREY], axis=2)


@pytest.mark.parametrize("layout", ["strips", "big-endian", "planar", "tiles"])
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("extra", [(), (0, 0, 0, 0)])
def test_bands_choose_channels_from_one(extra, bits, layout):
    data = written(deepen(BANDS, bits), BLACK_IS_ZERO, layout, extra=extra)
    for bands in ((3, 2, 1), (4, 5, 1), (1, 1, 1)):
        expected = BANDS[:, :, [band - 1 for band in bands]]
        assert np.abs(decoded(data, bands=bands) - expected).max() <= 1
    assert np.abs(decoded(data, bands=(4,)) - GREY).max() <= 1
    with pytest.raises(InputError, match="5 channels without a defined colour each; say bands="):
        decode_image(data, MANY)
    with pytest.raises(InputError, match=r"bands=\[6\], but the image has 5 channels"):
        decode_image(data, MANY, PixelOptions(bands=(6,)))


def test_bands_of_an_rgb_file_with_infrared():
    data = written(BANDS[:, :, :4], RGB, extra=(0,))
    assert np.array_equal(decoded(data), COLOURS)
    assert np.array_equal(decoded(data, bands=(4, 1, 2)), BANDS[:, :, [3, 0, 1]])


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits", None])
def test_what_libtiff_packs_is_read_with_levels_too(compression):
    deep = Image.fromarray(GREY[:, :, 0].astype(np.uint16) * 16)
    buffer = io.BytesIO()
    deep.save(buffer, "TIFF", **({"compression": compression} if compression else {}))
    assert np.abs(decoded(buffer.getvalue(), levels=(0, 4080)) - GREY).max() <= 1


def test_what_opencv_writes_is_read_with_levels_too():
    """LZW with a predictor."""
    encoded = cv2.imencode(".tif", COLOURS[:, :, ::-1].astype(np.uint16) * 16)[1].tobytes()
    assert np.abs(decoded(encoded, levels=(0.0, 4080.0)) - COLOURS).max() <= 1


def test_a_value_for_nothing_here_is_black_and_not_part_of_the_range():
    values = GREY.astype(np.float32)
    values[:13] = -9999
    data = written(values, BLACK_IS_ZERO, tags={42113: (2, b"-9999\0")})
    found = decoded(data, levels="auto")
    low, high = int(GREY[13:].min()), int(GREY[13:].max())
    expected = (GREY[13:].astype(float) - low) * 255 / (high - low)
    assert found[:13].max() == 0 and np.abs(found[13:] - expected).max() <= 6


@pytest.mark.parametrize("percent", range(5, 100, 10))
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_cut_file_raises_input_errors_only(layout, percent):
    data = written(deepen(COLOURS, 16), RGB, layout)
    cut = data[: len(data) * percent // 100]
    for options in (PixelOptions(), PixelOptions(levels="auto"), PixelOptions(bands=(3, 2, 1))):
        try:
            decode_image(cut, MANY, options)
        except InputError as error:
            assert error.status in (Status.CORRUPT, Status.TRUNCATED, Status.UNSUPPORTED)


@pytest.mark.filterwarnings("ignore")  # as in a run: Pillow warns about broken tags
@pytest.mark.parametrize("layout", LAYOUTS)
def test_damage_raises_input_errors_only(layout):
    data = written(deepen(BANDS, 16), BLACK_IS_ZERO, layout)
    random = np.random.default_rng(0)
    for _ in range(40):
        damaged = bytearray(data)
        for at in (
            *random.integers(2, len(data), 4),
            *random.integers(len(data) - 200, len(data), 4),
        ):
            damaged[at] = random.integers(0, 256)
        for options in (PixelOptions(), PixelOptions(levels="auto", bands=(3, 2, 1))):
            try:
                decode_image(bytes(damaged), MANY, options)
            except InputError as error:
                assert error.status in (
                    Status.CORRUPT, Status.TRUNCATED, Status.UNSUPPORTED, Status.TOO_LARGE,
                )  # fmt: skip


def test_many_channels_count_for_the_limit_of_pixels():
    data = written(np.zeros((10, 10, 200), np.uint16), BLACK_IS_ZERO)
    with pytest.raises(
        InputError, match="10x10 pixels take 40000 bytes, more than the 800"
    ) as caught:
        decode_image(data, 100, PixelOptions(bands=(1,)))
    assert caught.value.status is Status.TOO_LARGE
