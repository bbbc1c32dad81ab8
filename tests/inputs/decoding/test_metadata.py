"""Metadata never costs the picture: profiles, texts, sizes, EXIF and XMP, broken and over-long."""

import io
import struct
import zlib

import numpy as np
import pytest

from pipeline.core.types import InputError, Status
from pipeline.inputs.decoding.header import read_image_header
from pipeline.inputs.decoding.image import decode_image
from pipeline.inputs.decoding.nvjpeg import GpuJpegDecoder
from tests.helpers.metadata import (
    JPEG_XMP,
    insert_chunks,
    insert_segments,
    make_chunk,
    make_exif,
    make_extended_webp,
    make_raw_profile,
)
from tests.helpers.pictures import picture
from tests.helpers.tiffs import RGB, write_tiff

MANY = 10_000_000
SIZE = (41, 30)
BOMB = zlib.compress(bytes(80_000_000))
EXIF = b"Exif\0\0"


def encoded(kind, **options):
    buffer = io.BytesIO()
    picture(*SIZE).save(buffer, kind, **options)
    return buffer.getvalue()


JPEG, PNG, WEBP, GIF = (encoded(kind) for kind in ("JPEG", "PNG", "WEBP", "GIF"))
TIFF_PIXELS = {"samples": np.asarray(picture(*SIZE)), "photometric": RGB}


def png(*chunks):
    return insert_chunks(PNG, b"".join(make_chunk(*chunk) for chunk in chunks))


def png_wrong_checksum(name):
    chunk = bytearray(make_chunk(name, b"Comment\0abc"))
    chunk[-1] ^= 0xFF
    return insert_chunks(PNG, bytes(chunk))


def jpeg(*segments):
    return insert_segments(JPEG, *segments)


def jpeg_with_length(marker, length, content):
    """A segment that says another length than it has."""
    segment = bytes((0xFF, marker)) + struct.pack(">H", length) + content
    return JPEG[:2] + segment + JPEG[2:]


def webp(*chunks):
    return make_extended_webp(WEBP, SIZE, *chunks)


def webp_without_flags(*chunks):
    data = bytearray(webp(*chunks))
    data[20] = 0
    return bytes(data)


def tiff(tags, **options):
    return write_tiff({**TIFF_PIXELS, "tags": tags}, **options)


BROKEN = {
    "PNG zTXt that unpacks to 80 MB": png((b"zTXt", b"Comment\0\0" + BOMB)),
    "PNG iTXt that unpacks to 80 MB": png((b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + BOMB)),
    "PNG iCCP that unpacks to 80 MB": png((b"iCCP", b"icc\0\0" + BOMB)),
    "PNG raw profile of 80 MB": png((b"zTXt", b"Raw profile type exif\0\0" + BOMB)),
    "PNG texts above Pillow's limit": png(
        *((b"tEXt", b"Comment\0" + bytes([65]) * 900_000) for _ in range(80))
    ),
    "PNG 3,000 texts": png(*((b"tEXt", b"Comment\0abc") for _ in range(3000))),
    "PNG iCCP damaged": png((b"iCCP", b"icc\0\0\1\2\3")),
    "PNG iCCP of another method": png((b"iCCP", b"icc\0\7" + zlib.compress(b"abc"))),
    "PNG iCCP empty": png((b"iCCP", b"")),
    "PNG zTXt damaged": png((b"zTXt", b"Comment\0\0\1\2\3")),
    "PNG zTXt of another method": png((b"zTXt", b"Comment\0\5\1\2\3")),
    "PNG pHYs empty": png((b"pHYs", b"")),
    "PNG pHYs of zero": png((b"pHYs", struct.pack(">IIB", 0, 0, 1))),
    "PNG pHYs too large": png((b"pHYs", struct.pack(">IIB", 2**32 - 1, 2**32 - 1, 9))),
    "PNG cHRM, gAMA, sRGB, tIME cut": png(*((n, b"\1") for n in (b"cHRM", b"gAMA", b"tIME"))),
    "PNG sRGB empty": png((b"sRGB", b"")),
    "PNG eXIf damaged": png((b"eXIf", b"II*\0\xff\xff\xff\xff")),
    "PNG raw profile without digits": png((b"tEXt", b"Raw profile type exif\0\nexif\n  9\nxyz\n")),
    "PNG acTL, fcTL damaged": png((b"acTL", b"\0\0"), (b"fcTL", b"\0")),
    "PNG text of a wrong checksum": png_wrong_checksum(b"tEXt"),
    "PNG profile of a wrong checksum": png_wrong_checksum(b"iCCP"),
    "PNG unknown chunk": png((b"prVt", b"\0" * 100)),
    "JPEG EXIF empty": jpeg((0xE1, EXIF)),
    "JPEG EXIF that leads out of itself": jpeg((0xE1, EXIF + b"II*\0\xff\xff\xff\x7f")),
    "JPEG EXIF of 65,533 bytes": jpeg((0xE1, EXIF + bytes(65_527))),
    "JPEG EXIF in many segments": jpeg(*((0xE1, EXIF + bytes(60_000)) for _ in range(100))),
    "JPEG XMP damaged": jpeg((0xE1, JPEG_XMP + b"<x:xmpmeta \xff\xfe")),
    "JPEG ICC numbered 0 of 0": jpeg((0xE2, b"ICC_PROFILE\0\0\0abc")),
    "JPEG ICC with one part of three": jpeg((0xE2, b"ICC_PROFILE\0\2\3abc")),
    "JPEG ICC of 255 parts": jpeg(
        *((0xE2, b"ICC_PROFILE\0" + bytes([i, 255]) + bytes(60_000)) for i in range(1, 256))
    ),
    "JPEG MPF damaged": jpeg((0xE2, b"MPF\0II*\0\xff\xff\xff\xff")),
    "JPEG MPF empty": jpeg((0xE2, b"MPF\0")),
    "JPEG Photoshop damaged": jpeg((0xED, b"Photoshop 3.0\x008BIM\x03\xed\0")),
    "JPEG Photoshop resolution cut": jpeg((0xED, b"Photoshop 3.0\x008BIM\x03\xed\0\0\0\0\0\2ab")),
    "JPEG JFIF too short": jpeg((0xE0, b"JFIF\0")),
    "JPEG JFIF of unit 9, density 0": jpeg((0xE0, b"JFIF\0\1\2\x09\0\0\0\0\0\0")),
    "JPEG Adobe too short": jpeg((0xEE, b"Adobe")),
    "JPEG comment of 65,533 bytes": jpeg((0xFE, bytes(65_533))),
    "JPEG EXIF longer than it says": jpeg_with_length(0xE1, 12, EXIF + b"abcdefgh" * 9),
    "JPEG EXIF of length 0": jpeg_with_length(0xE1, 0, EXIF + b"abcdefgh"),
    "JPEG comment of length 1": jpeg_with_length(0xFE, 1, b"abcdefgh"),
    "WebP EXIF damaged": webp((b"EXIF", b"II*\0\xff\xff\xff\xff")),
    "WebP EXIF empty": webp((b"EXIF", b"")),
    "WebP XMP damaged": webp((b"XMP ", b"\xff\xfe<")),
    "WebP ICC damaged": webp((b"ICCP", b"\1\2\3")),
    "WebP EXIF without its flag": webp_without_flags((b"EXIF", make_exif(1))),
    "WebP EXIF longer than the file": webp((b"EXIF", bytes(40)))[:-20],
    "GIF comment of 60 KB": GIF[:-1]
    + b"".join(b"\x21\xfe\xff" + bytes(255) + b"\0" for _ in range(240))
    + b";",
    "TIFF ICC outside the file": tiff({34675: (7, [])}),
    "TIFF EXIF pointer outside the file": tiff({34665: (4, [0x7FFFFFF0]), 34853: (4, [3])}),
    "TIFF EXIF pointer to itself": tiff({34665: (4, [8])}),
    "TIFF resolution damaged": tiff(
        {282: (5, b"\0\0\0\0\0\0\0\0"), 283: (2, b"ab"), 296: (3, [99])}
    ),
    "TIFF XMP damaged": tiff({700: (1, b"\xff\xfe<x:xmpmeta")}),
    "TIFF XMP of 3 MB": tiff({700: (1, bytes(3_000_000))}),
    "TIFF text without an end": tiff({270: (2, b"no end"), 305: (7, b"\xff" * 9)}),
    "TIFF tag of an unknown type": tiff({65000: (99, b"abcdefgh")}),
    "BigTIFF EXIF pointer outside": tiff({34665: (4, [0x7FFFFFF0])}, big=True),
}
CLEAN = {"PNG": PNG, "JPEG": JPEG, "WebP": WEBP, "GIF": GIF}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_metadata_costs_nothing(case):
    data = BROKEN[case]
    found = decode_image(data, MANY)
    clean = CLEAN.get(case.split()[0], tiff({}))
    assert np.array_equal(found.numpy(), decode_image(clean, MANY).numpy())
    assert read_image_header(io.BytesIO(data), MANY).size_hw == SIZE[::-1]


@pytest.mark.parametrize("case", [case for case in BROKEN if case.startswith("JPEG")])
def test_the_gpus_decoder_gets_files_without_metadata(case):
    seen = []

    def remember(files, device):
        seen.extend(files)
        raise RuntimeError("no GPU")

    (found,) = GpuJpegDecoder("jpeg: none", remember, "cpu").decode_many([BROKEN[case]], MANY)
    assert not isinstance(found, InputError)
    assert all(len(data) <= len(JPEG) + 32 for data in seen)


def test_text_is_not_unpacked_without_a_limit():
    """The text of a raw profile that hides the orientation behind a megabyte of blanks."""
    text = b"\n" * 3_000_000 + make_raw_profile(b"exif", make_exif(6))
    data = png((b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(text)))
    assert read_image_header(io.BytesIO(data), MANY).orientation == 1


@pytest.mark.parametrize("name", [b"IDAT", b"PLTE"])
def test_damage_in_what_holds_the_picture_still_counts(name):
    chunk = bytearray(make_chunk(name, b"abc"))
    chunk[-1] ^= 0xFF
    with pytest.raises(InputError) as caught:
        decode_image(insert_chunks(PNG, bytes(chunk)), MANY)
    assert caught.value.status in (Status.CORRUPT, Status.TRUNCATED)
