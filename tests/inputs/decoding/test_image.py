import io
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image, features

from pipeline.core.types import InputError, Status
from pipeline.inputs.decoding.diagnosis import guess_format
from pipeline.inputs.decoding.formats import IMAGE_FORMATS, IMAGE_SUFFIXES
from pipeline.inputs.decoding.header import read_image_header
from pipeline.inputs.decoding.image import decode_image, decode_or_error, turn_upright
from tests.helpers.pictures import picture

MANY = 10_000_000
T = Image.Transpose
STORED_AS = {  # how a camera stores the upright picture under each EXIF orientation
    1: None,
    2: T.FLIP_LEFT_RIGHT,
    3: T.ROTATE_180,
    4: T.FLIP_TOP_BOTTOM,
    5: T.TRANSPOSE,
    6: T.ROTATE_90,
    7: T.TRANSVERSE,
    8: T.ROTATE_270,
}


def encoded(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def pixels(data, max_pixels=MANY):
    """(H, W, 3) int of a decoded file; the header must have told its size beforehand."""
    found = decode_image(data, max_pixels)
    assert found.dtype == torch.uint8
    assert read_image_header(io.BytesIO(data), max_pixels).size_hw == tuple(found.shape[1:])
    return found.permute(1, 2, 0).numpy().astype(int)


def refusal(data, max_pixels=MANY):
    with pytest.raises(InputError) as caught:
        decode_image(data, max_pixels)
    return caught.value


def with_orientation(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def asymmetric():
    """60 x 40, another colour in each corner: no turn or mirror image of it is the same."""
    array = np.zeros((40, 60, 3), np.uint8)
    array[:20, :30], array[:20, 30:], array[20:, :30] = (250, 20, 20), (20, 250, 20), (20, 20, 250)
    return Image.fromarray(array)


# --- every mode and format


def rgba():
    image = picture(31, 20).convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    return image


LOSSLESS = [
    ("RGB as PNG", picture(31, 20), "PNG", {}),
    ("L as PNG", picture(31, 20).convert("L"), "PNG", {}),
    ("1 as PNG", picture(31, 20).convert("1"), "PNG", {}),
    ("P as PNG", picture(31, 20).quantize(16), "PNG", {}),
    ("RGB as BMP", picture(31, 20), "BMP", {}),
    ("L as BMP", picture(31, 20).convert("L"), "BMP", {}),
    ("1 as BMP", picture(31, 20).convert("1"), "BMP", {}),
    ("P as BMP", picture(31, 20).quantize(16), "BMP", {}),
    ("RGB as TIFF", picture(31, 20), "TIFF", {}),
    ("RGB as TIFF, LZW", picture(31, 20), "TIFF", {"compression": "tiff_lzw"}),
    ("RGB as TIFF, deflate", picture(31, 20), "TIFF", {"compression": "tiff_adobe_deflate"}),
    ("L as TIFF", picture(31, 20).convert("L"), "TIFF", {}),
    ("1 as TIFF", picture(31, 20).convert("1"), "TIFF", {}),
    ("P as TIFF", picture(31, 20).quantize(16), "TIFF", {}),
    ("CMYK as TIFF", picture(31, 20).convert("CMYK"), "TIFF", {}),
    ("RGB as WEBP", picture(31, 20), "WEBP", {"lossless": True}),
    ("P as GIF", picture(31, 20).quantize(16), "GIF", {}),
    ("L as GIF", picture(31, 20).convert("L"), "GIF", {}),
    ("RGB as PPM", picture(31, 20), "PPM", {}),
    ("L as PPM", picture(31, 20).convert("L"), "PPM", {}),
    ("1 as PPM", picture(31, 20).convert("1"), "PPM", {}),
    ("one pixel", picture(1, 1), "PNG", {}),
    ("one row", picture(300, 1), "PNG", {}),
]


@pytest.mark.parametrize(
    ("image", "kind", "options"),
    [case[1:] for case in LOSSLESS],
    ids=[case[0] for case in LOSSLESS],
)
def test_a_lossless_file_gives_the_pixels_that_were_written(image, kind, options):
    assert np.array_equal(pixels(encoded(image, kind, **options)), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize(
    ("image", "kind", "options"),
    [
        (rgba(), "PNG", {}),
        (rgba(), "TIFF", {}),
        (rgba(), "WEBP", {"lossless": True, "exact": True}),
        (rgba().convert("LA"), "PNG", {}),
    ],
)
def test_alpha_is_dropped_not_blended(image, kind, options):
    without_alpha = Image.merge("RGB", image.convert("RGBA").split()[:3])
    assert np.array_equal(pixels(encoded(image, kind, **options)), np.asarray(without_alpha))


@pytest.mark.parametrize(
    ("kind", "transparency"),
    [
        ("PNG", 0),
        ("GIF", 0),
        ("PNG", bytes([0, 128, 255, 1])),
    ],  # one colour, or an alpha for each of the first four
)
def test_a_palette_with_transparency_gives_its_colours(kind, transparency):
    data = encoded(picture(31, 20).quantize(16), kind, transparency=transparency)
    with Image.open(io.BytesIO(data)) as again:
        assert "transparency" in again.info
    plain = picture(31, 20).quantize(16).convert("RGB")
    assert np.array_equal(pixels(data), np.asarray(plain))


@pytest.mark.parametrize(("mode", "value"), [("L", 7), ("RGB", (1, 2, 3)), ("1", 1)])
def test_a_png_with_one_transparent_colour_keeps_that_colour(mode, value):
    image = Image.new(mode, (5, 4), value)
    assert np.array_equal(
        pixels(encoded(image, "PNG", transparency=value)), np.asarray(image.convert("RGB"))
    )


LOSSY = [
    (picture(61, 40), "JPEG", {"quality": 95}),
    (picture(61, 40), "JPEG", {"quality": 95, "progressive": True}),
    (picture(61, 40), "JPEG", {"quality": 95, "subsampling": 0}),
    (picture(61, 40).convert("L"), "JPEG", {"quality": 95}),
    (picture(61, 40).convert("CMYK"), "JPEG", {"quality": 95}),
    (picture(61, 40), "WEBP", {"quality": 95}),
    (picture(61, 40), "MPO", {"quality": 95}),
    (picture(61, 40), "AVIF", {"quality": 95}),
]


@pytest.mark.parametrize(("image", "kind", "options"), LOSSY)
def test_a_lossy_file_gives_nearly_the_pixels_that_were_written(image, kind, options):
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    difference = np.abs(pixels(encoded(image, kind, **options)) - np.asarray(image.convert("RGB")))
    assert difference.mean() < 4 and np.percentile(difference, 95) < 12


@pytest.mark.parametrize(
    ("image", "kind", "options"), [case for case in LOSSY if case[1] == "JPEG"]
)
@pytest.mark.parametrize("quality", [10, 75, 100])
def test_a_jpeg_has_the_pixels_that_pillow_gives(image, kind, options, quality):
    data = encoded(image, kind, **options | {"quality": quality})
    with Image.open(io.BytesIO(data)) as reference:
        difference = np.abs(pixels(data) - np.asarray(reference.convert("RGB")).astype(int))
    assert difference.max() <= (2 if image.mode == "CMYK" else 0)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_sixteen_bits_of_grey_become_eight_by_scaling(kind):
    deep = np.array([[0, 1, 128, 129, 257, 257 * 2, 257 * 100, 257 * 254, 65534, 65535]], np.uint16)
    found = pixels(encoded(Image.fromarray(deep), kind))
    assert found[0].tolist() == [[k, k, k] for k in (0, 0, 0, 1, 1, 2, 100, 254, 255, 255)]


def test_every_multiple_of_257_is_its_eighth_bit_value():
    deep = (np.arange(256, dtype=np.uint16) * 257).reshape(16, 16)
    assert np.array_equal(
        pixels(encoded(Image.fromarray(deep), "PNG"))[:, :, 0].ravel(), np.arange(256)
    )


def test_big_endian_sixteen_bit_tiff_is_read_as_such():
    image = Image.new("I;16B", (2, 1))
    image.putpixel((1, 0), 257 * 200)
    assert pixels(encoded(image, "TIFF"))[0, :, 0].tolist() == [0, 200]


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_several_frames_the_first_is_taken(kind):
    frames = [picture(24, 24, seed=i).quantize(8).convert("RGB") for i in range(3)]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    with Image.open(io.BytesIO(data)) as image:
        assert image.n_frames == 3
    assert np.array_equal(pixels(data), np.asarray(frames[0]))


# --- orientation


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF", "TIFF"])
def test_every_orientation_decodes_to_the_same_upright_picture(kind, orientation):
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    image, turn = asymmetric(), STORED_AS[orientation]
    stored = image if turn is None else image.transpose(turn)
    found = pixels(encoded(stored, kind, exif=with_orientation(orientation)))
    assert found.shape == (40, 60, 3)
    assert np.abs(found - np.asarray(image)).mean() < 5


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_a_nonsense_orientation_is_none(orientation):
    image = asymmetric()
    data = encoded(image, "PNG", exif=with_orientation(orientation))
    assert np.array_equal(pixels(data), np.asarray(image))
    assert read_image_header(io.BytesIO(data), MANY).orientation == 1


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's own, about the metadata
@pytest.mark.parametrize(
    "exif", [b"Exif\0\0", b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\xff"]
)
def test_broken_exif_does_not_cost_the_picture(exif):
    data = encoded(asymmetric(), "JPEG", exif=exif)
    assert np.abs(pixels(data) - np.asarray(asymmetric())).mean() < 5


@pytest.mark.parametrize("orientation", [*STORED_AS, 0, 9])
def test_upright_undoes_how_the_picture_was_stored(orientation):
    turn = STORED_AS.get(orientation)
    stored = asymmetric() if turn is None else asymmetric().transpose(turn)
    turned = turn_upright(torch.from_numpy(np.array(stored)).permute(2, 0, 1), orientation)
    assert np.array_equal(turned.permute(1, 2, 0).numpy(), np.asarray(asymmetric()))


# --- what cannot be decoded


def test_an_empty_file_is_empty():
    assert refusal(b"").status is Status.EMPTY
    with pytest.raises(InputError) as caught:
        read_image_header(io.BytesIO(b""), MANY)
    assert caught.value.status is Status.EMPTY


CUT = [
    ("JPEG", {}),
    ("JPEG", {"progressive": True}),
    ("JPEG", {"exif": with_orientation(6)}),
    ("PNG", {}),
    ("WEBP", {"lossless": True}),
    ("BMP", {}),
]


@pytest.mark.parametrize(("kind", "options"), CUT)
@pytest.mark.parametrize("percent", range(0, 100, 5))
def test_a_truncated_file_is_truncated_at_every_twentieth(kind, options, percent):
    data = encoded(picture(160, 120), kind, **options)
    error = refusal(data[: len(data) * percent // 100])
    assert error.status is (Status.TRUNCATED if percent else Status.EMPTY)
    if percent:
        assert kind in str(error)


@pytest.mark.parametrize(("kind", "options"), CUT)
@pytest.mark.parametrize("percent", range(0, 100, 5))
def test_the_header_of_a_truncated_file_is_right_or_truncated(kind, options, percent):
    data = encoded(picture(160, 120), kind, **options)
    try:
        header = read_image_header(io.BytesIO(data[: len(data) * percent // 100]), MANY)
    except InputError as error:
        assert error.status is (Status.TRUNCATED if percent else Status.EMPTY)
    else:
        assert header.size_hw == ((160, 120) if "exif" in options else (120, 160))


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "AVIF", "PPM"])
@pytest.mark.parametrize("percent", [50, 90])
def test_other_formats_are_truncated_or_corrupt_when_cut(kind, percent):
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    data = encoded(picture(160, 120), kind)
    assert refusal(data[: len(data) * percent // 100]).status in (Status.TRUNCATED, Status.CORRUPT)


NOT_DECODED = [
    (b"This is a text that somebody named photo.jpg.\n", "no known image format"),
    (b"<html><body>404 Not Found</body></html>", "no known image format"),
    (bytes(500), "no known image format"),
    (b"8BPS\0\1" + bytes(500), "PSD"),
    (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "EPS"),
    (b"%PDF-1.7\n" + bytes(500), "PDF"),
    (b"SIMPLE  =                    T" + bytes(3000), "FITS"),
    (b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(500), "JPEG 2000"),
    (b'<svg xmlns="http://www.w3.org/2000/svg"></svg>', "SVG"),
]


@pytest.mark.parametrize(("data", "said"), NOT_DECODED)
def test_what_is_no_image_of_ours_is_unsupported(data, said):
    error = refusal(data)
    assert error.status is Status.UNSUPPORTED and said in str(error)
    with pytest.raises(InputError) as caught:
        read_image_header(io.BytesIO(data), MANY)
    assert caught.value.status is Status.UNSUPPORTED


@pytest.mark.parametrize("kind", ["EPS", "ICO", "JPEG2000", "TGA", "PCX", "SGI"])
def test_a_format_outside_the_list_is_unsupported_although_pillow_can_read_it(kind):
    assert kind not in IMAGE_FORMATS
    assert refusal(encoded(picture(32, 32), kind)).status is Status.UNSUPPORTED


@pytest.mark.parametrize(
    "array",
    [
        np.full((4, 5), 0.5, np.float32),
        np.full((4, 5), 70_000, np.int32),
        np.full((4, 5), -1, np.int32),
    ],
)
def test_pixels_without_a_defined_brightness_are_unsupported(array):
    data = encoded(Image.fromarray(array), "TIFF")
    assert refusal(data).status is Status.UNSUPPORTED
    assert read_image_header(io.BytesIO(data), MANY).size_hw == (4, 5)


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png_header(width, height):
    """A PNG that claims a size and holds nothing: decoding it would fail as truncated."""
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
        + chunk(b"IDAT", b"")
    )


@pytest.mark.parametrize(("width", "height"), [(60_000, 50_000), (101, 100), (2_000_000_000, 1)])
def test_too_many_pixels_are_refused_from_the_header(width, height):
    for refused in (
        lambda data: decode_image(data, 10_000),
        lambda data: read_image_header(io.BytesIO(data), 10_000),
    ):
        with pytest.raises(InputError) as caught:
            refused(png_header(width, height))
        assert caught.value.status is Status.TOO_LARGE
        assert caught.value.size_hw == (height, width)
        assert f"{width}x{height}" in str(caught.value) and "max_pixels=10000" in str(caught.value)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_the_size_of_what_is_too_large_is_that_of_the_upright_image(orientation):
    data = encoded(picture(60, 40), "JPEG", exif=with_orientation(orientation))
    error = refusal(data, 2399)
    assert error.status is Status.TOO_LARGE
    assert error.size_hw == ((60, 40) if orientation >= 5 else (40, 60))


def test_exactly_as_many_pixels_as_allowed_are_decoded():
    assert pixels(encoded(picture(60, 40), "PNG"), 2400).shape == (40, 60, 3)


@pytest.mark.filterwarnings("ignore")  # as in a run: Pillow warns about broken metadata
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_damage_never_raises_anything_but_an_input_error(kind):
    data = encoded(picture(48, 32), kind)
    rng = np.random.default_rng(0)
    outcomes = set()
    for _ in range(60):
        damaged = bytearray(data)
        for at in rng.integers(2, len(data), 8):
            damaged[at] = rng.integers(0, 256)
        try:
            decode_image(bytes(damaged), MANY)
        except InputError as error:
            outcomes.add(error.status)
    assert outcomes <= {Status.CORRUPT, Status.TRUNCATED, Status.UNSUPPORTED, Status.TOO_LARGE}


def test_a_png_with_a_wrong_checksum_in_its_header_is_corrupt():
    data = bytearray(encoded(picture(48, 32), "PNG"))
    data[30] ^= 0xFF  # within the checksum of IHDR
    error = refusal(bytes(data))
    assert error.status is Status.CORRUPT and "PNG" in str(error)


# --- names and headers


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM"])
def test_the_header_names_the_format(kind):
    header = read_image_header(io.BytesIO(encoded(picture(33, 21), kind)), MANY)
    assert (header.format, header.size_hw, header.orientation) == (kind, (21, 33), 1)
    assert kind in IMAGE_FORMATS and guess_format(encoded(picture(33, 21), kind)) == kind


@pytest.mark.parametrize(
    "suffix", [".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic"]
)
def test_suffixes_are_lower_case_and_hold(suffix):
    assert suffix in IMAGE_SUFFIXES and all(
        one == one.casefold() and one.startswith(".") for one in IMAGE_SUFFIXES
    )


def test_an_error_that_is_returned_keeps_no_pixels_in_memory() -> None:
    data = io.BytesIO()
    picture(40, 30).save(data, "PNG")
    error = decode_or_error(data.getvalue()[:-40], 10_000)
    assert isinstance(error, InputError) and error.status in (Status.TRUNCATED, Status.CORRUPT)
    assert error.__traceback__ is None and error.__context__ is None
