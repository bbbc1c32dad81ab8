"""HEIC, HEIF and JPEG XL: read where their packages are installed, else named with what to type."""

import io

import numpy as np
import pytest
from PIL import Image

from pipeline.core.types import InputError, Status
from pipeline.inputs.decoding import optional_formats
from pipeline.inputs.decoding.header import read_image_header
from pipeline.inputs.decoding.image import decode_image
from pipeline.inputs.decoding.jxl_header import read_jxl_header
from pipeline.inputs.decoding.optional_formats import OPTIONAL_FORMATS, OptionalFormat
from tests.helpers.metadata import make_exif
from tests.helpers.pictures import picture

pillow_heif = pytest.importorskip("pillow_heif", reason="the extra heif is not installed")
pytest.importorskip("pillow_jxl", reason="the extra jxl is not installed")

MANY = 10_000_000
STORED = np.asarray(picture(80, 48))


def heif(orientation=1, exif=True):
    """A file whose box `irot` or `imir` turns the picture."""
    pillow_heif.register_heif_opener()
    buffer = io.BytesIO()
    options = {"exif": make_exif(orientation)} if exif else {}
    Image.fromarray(STORED).save(buffer, "HEIF", quality=95, chroma=444, **options)
    return buffer.getvalue()


def jxl(size=(80, 48), **options):
    buffer = io.BytesIO()
    picture(*size).save(buffer, "JXL", quality=95, **options)
    return buffer.getvalue()


def decoded(data):
    found = decode_image(data, MANY)
    assert read_image_header(io.BytesIO(data), MANY).size_hw == tuple(found.shape[1:])
    return found.permute(1, 2, 0).numpy().astype(int)


TURNS = {1: 0, 3: 2, 6: 3, 8: 1}  # orientation -> quarter turns to the left


@pytest.mark.parametrize("orientation", TURNS)
def test_a_heif_file_is_turned_once(orientation):
    expected = np.rot90(STORED, TURNS[orientation])
    assert np.abs(decoded(heif(orientation)) - expected).mean() < 4


def test_exif_does_not_turn_a_heif_file_again():
    """libheif turns by the container. EXIF alone does not count (ISO 23008-12)."""
    data = heif(1)
    at = data.index(make_exif(1))
    data = data[:at] + make_exif(6) + data[at + len(make_exif(1)) :]
    assert decoded(data).shape == STORED.shape


@pytest.mark.parametrize("brand", [b"heic", b"mif1"])
def test_the_brand_may_be_the_general_one(brand):
    data = heif()
    assert decoded(data[:8] + brand + data[12:]).shape == STORED.shape


@pytest.mark.parametrize(
    "size",
    [(1, 1), (8, 8), (64, 48), (120, 100), (160, 120), (30, 20), (320, 180), (257, 1), (900, 7)],
)
@pytest.mark.parametrize("container", [False, True])
def test_the_size_of_a_jpeg_xl_file_is_read_without_decoding(size, container):
    data = jxl(size, use_container=container, exif=make_exif(1) if container else b"")
    assert read_jxl_header(io.BytesIO(data)) == (size[::-1], 1)


def test_a_jpeg_xl_file():
    assert np.abs(decoded(jxl()) - STORED).mean() < 4


def test_exif_does_not_turn_a_jpeg_xl_file():
    """The codestream's own orientation counts alone (ISO 18181-2)."""
    assert decoded(jxl(exif=make_exif(6))).shape == STORED.shape


@pytest.mark.parametrize("make", [heif, jxl])
def test_limits_and_damage(make):
    data = make()
    with pytest.raises(InputError, match="max_pixels=1000") as caught:
        decode_image(data, 1000)
    assert caught.value.status is Status.TOO_LARGE and caught.value.size_hw == (48, 80)
    for end in range(4, len(data), len(data) // 12):
        try:
            decode_image(data[:end], MANY)
        except InputError as error:
            assert error.status in (Status.CORRUPT, Status.TRUNCATED)


@pytest.mark.parametrize(
    ("name", "data", "command"),
    [("HEIF", heif(), "'visionbatch[heif]'"), ("JPEG XL", jxl(), "'visionbatch[jxl]'")],
)
def test_without_its_package_a_format_is_named_with_what_to_type(monkeypatch, name, data, command):
    monkeypatch.setattr(OptionalFormat, "find_version", lambda self: None)
    optional_formats._register.cache_clear()
    try:
        for read in (decode_image, lambda data, most: read_image_header(io.BytesIO(data), most)):
            with pytest.raises(InputError) as caught:
                read(data, MANY)
            assert caught.value.status is Status.UNSUPPORTED
            assert f"{name} files need" in str(caught.value) and command in str(caught.value)
        assert optional_formats.describe_installed() == ""
    finally:
        optional_formats._register.cache_clear()


def test_a_package_that_cannot_be_loaded_is_said_so(monkeypatch):
    def fail(name):
        raise ImportError("libheif.so: cannot open")

    monkeypatch.setattr(optional_formats, "import_module", fail)
    optional_formats._register.cache_clear()
    try:
        with pytest.raises(InputError, match=r"cannot be loaded \(libheif.so"):
            decode_image(heif(), MANY)
    finally:
        optional_formats._register.cache_clear()


def test_the_decoders_name_has_the_versions():
    found = optional_formats.describe_installed()
    assert all(each.package in found for each in OPTIONAL_FORMATS.values())


@pytest.mark.parametrize(
    "data", [b"", b"\xff\x0a", b"\xff\x0a\xff", b"\0\0\0\x0cJXL \r\n\x87\n", b"text"]
)
def test_a_cut_header_of_jpeg_xl(data):
    with pytest.raises(ValueError, match="JPEG XL"):
        read_jxl_header(io.BytesIO(data))
