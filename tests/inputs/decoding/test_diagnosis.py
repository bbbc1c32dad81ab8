import io
import struct

import pytest
from PIL import Image

from pipeline.inputs.decoding.diagnosis import guess_format, is_truncated
from tests.helpers.pictures import picture


def encoded(kind, **options):
    buffer = io.BytesIO()
    picture(40, 30).save(buffer, kind, **options)
    return buffer.getvalue()


WRITTEN = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "PPM")
WHOLE = [
    *((kind, {}) for kind in WRITTEN if kind != "PPM"),
    ("JPEG", {"progressive": True}),
    ("JPEG", {"exif": b"Exif\0\0" + bytes(100)}),
    ("PNG", {"compress_level": 0}),
    ("WEBP", {"lossless": True}),
]


@pytest.mark.parametrize("kind", WRITTEN)
def test_what_pillow_writes_is_known_by_its_first_bytes(kind):
    assert guess_format(encoded(kind)) == kind
    assert guess_format(encoded(kind)[:16]) == kind


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", None),
        (b"\0", "JPEG 2000"),  # the beginning of several; any one that is not decoded will do
        (b"hello, world", None),
        (b"<html><body>404</body></html>", None),
        (b"version https://git-lfs", None),
        (b"MM\0*\0\0\0\x08", "TIFF"),
        (b"II*\0\x08\0\0\0", "TIFF"),
        (b"GIF87a", "GIF"),
        (b"GIF89a", "GIF"),
        (b"%!PS-Adobe-3.0 EPSF-3.0", "EPS"),
        (b"8BPS\0\1", "PSD"),
        (b"SIMPLE  =", "FITS"),
        (b"%PDF-1.7", "PDF"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
        (b"\xff\x0a\xfa", "JPEG XL"),
        (b"\0\0\1\0\1\0", "ICO"),
        (b"<svg xmlns=", "SVG"),
        (b"\0\0\0\x1cftypavif\0\0\0\0", "AVIF"),
        (b"\0\0\0\x1cftypavis\0\0\0\0", "AVIF"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "HEIF"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0", "MP4 or QuickTime video"),
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1avifmiaf", "AVIF"),
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1heicmiaf", "HEIF"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
        (b"II+\0\x08\0\0\0", "TIFF"),
        (b"RIFF\x24\0\0\0WAVEfmt ", None),
        (b"P6\n4 4\n255\n", "PPM"),
        (b"P1 4 4", "PPM"),
        (b"P7\n", None),
        (b"P6x", None),
        (b"Paris", None),
    ],
)
def test_a_format_is_known_by_its_first_bytes(data, kind):
    assert guess_format(data) == kind


@pytest.mark.parametrize(
    ("kind", "length"),
    [
        *(("JPEG", n) for n in (1, 2)),
        *(("PNG", n) for n in (1, 3, 7)),
        *(("GIF", n) for n in (1, 3, 5)),
        *(("BMP", n) for n in (1, 2)),
        *(("TIFF", n) for n in (1, 3)),
        *(("WEBP", n) for n in (4, 8, 12)),
        *(pytest.param("WEBP", n) for n in (1, 3, 9, 11)),
    ],
)
def test_a_file_cut_within_its_signature_is_still_known(kind, length):
    assert guess_format(encoded(kind)[:length]) == kind


@pytest.mark.parametrize(("kind", "options"), WHOLE)
def test_a_whole_file_is_not_cut(kind, options):
    assert not is_truncated(encoded(kind, **options), kind)


@pytest.mark.parametrize(
    ("kind", "options"), [case for case in WHOLE if case[0] not in ("TIFF", "AVIF")]
)
@pytest.mark.parametrize("percent", range(5, 100, 5))
def test_a_file_without_its_end_is_cut(kind, options, percent):
    data = encoded(kind, **options)
    assert is_truncated(data[: len(data) * percent // 100], kind)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "GIF", "WEBP"])
def test_one_missing_byte_is_a_cut(kind):
    assert is_truncated(encoded(kind)[:-1], kind)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "WEBP"])
def test_bytes_behind_the_end_are_not_a_cut(kind):
    assert not is_truncated(encoded(kind) + b"behind the end", kind)


def test_an_end_marker_inside_a_thumbnail_is_not_the_images_end():
    data = encoded("JPEG", exif=b"Exif\0\0" + encoded("JPEG"))
    assert is_truncated(data[:-2], "JPEG")


def test_damage_within_a_jpeg_is_not_a_cut():
    data = bytearray(encoded("JPEG"))
    data[20] = 0x00  # where the marker of the second segment begins
    assert data[:2] == b"\xff\xd8" and not is_truncated(bytes(data), "JPEG")


def test_damage_within_a_png_is_not_a_cut():
    data = bytearray(encoded("PNG"))
    struct.pack_into(">I", data, 33, 0xFFFFFFFF)  # the length of the chunk after IHDR
    assert not is_truncated(bytes(data), "PNG")


def test_a_jpeg_of_tables_alone_is_whole():
    assert not is_truncated(b"\xff\xd8\xff\xd9", "JPEG")


def test_an_animations_every_frame_counts():
    frames = [picture(20, 20, seed=i) for i in range(3)]
    buffer = io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    data = buffer.getvalue()
    with Image.open(buffer) as image:
        assert image.n_frames == 3
    assert not is_truncated(data, "GIF") and is_truncated(data[: len(data) // 2], "GIF")
