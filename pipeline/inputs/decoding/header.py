"""Read the size and orientation of an image file from its header with Pillow, without decoding."""

import os
from dataclasses import dataclass
from typing import BinaryIO

from PIL import ExifTags, Image

from pipeline.core.types import InputError, Status
from pipeline.inputs.decoding.diagnosis import DIAGNOSED_BYTES, diagnose_failure
from pipeline.inputs.decoding.formats import IMAGE_FORMATS

Image.init()  # load Pillow's plug-ins now, before several threads need them at once
# `open_image` checks max_pixels instead. So each run has its own limit and gets an InputError, and
# Python's global warning filters are not needed.
Image.MAX_IMAGE_PIXELS = None

# A file of this many bytes is never too large, because a small image may have large metadata.
_MIN_FILE_LIMIT = 64 << 20
_MAX_BYTES_PER_PIXEL = 8  # 16-bit RGBA, uncompressed


@dataclass(frozen=True)
class ImageHeader:
    """Content of an image file's header. `size_hw` is the size of the upright image in pixels."""

    format: str
    size_hw: tuple[int, int]
    orientation: int  # EXIF, 1..8


def read_image_header(file: BinaryIO, max_pixels: int) -> ImageHeader:
    """Read format, size and orientation without decoding.

    Raises:
        InputError: EMPTY, UNSUPPORTED, TRUNCATED, CORRUPT or TOO_LARGE.
    """
    check_file_size(file, max_pixels)
    with open_image(file, max_pixels) as image:
        return describe_image(image)


def check_file_size(file: BinaryIO, max_pixels: int) -> None:
    """Check a file's number of bytes, and seek back to its beginning.

    Raises:
        InputError: EMPTY or TOO_LARGE.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    if size == 0:
        raise InputError(Status.EMPTY, "the file has zero bytes")

    limit = max(_MIN_FILE_LIMIT, _MAX_BYTES_PER_PIXEL * max_pixels)
    if size > limit:
        raise InputError(
            Status.TOO_LARGE,
            f"{size} bytes; no image of max_pixels={max_pixels} needs more than {limit}",
        )


def open_image(file: BinaryIO, max_pixels: int) -> Image.Image:
    """Open the image with Pillow, which reads the header but no pixels.

    Raises:
        InputError: UNSUPPORTED, TRUNCATED, CORRUPT or TOO_LARGE.
    """
    try:
        image = Image.open(file, formats=IMAGE_FORMATS)
    except Exception as error:  # noqa: BLE001 - hostile bytes raise anything: struct.error, SyntaxError, MemoryError ...
        file.seek(0)
        raise diagnose_failure(file.read(DIAGNOSED_BYTES), error) from None

    width, height = image.size
    if width * height > max_pixels:
        raise InputError(
            Status.TOO_LARGE,
            f"{width}x{height} is {width * height} pixels, more than max_pixels={max_pixels}",
            size_hw=describe_image(image).size_hw,
        )
    return image


def describe_image(image: Image.Image) -> ImageHeader:
    """Return the header of an image that Pillow has opened."""
    orientation = read_orientation(image)
    width, height = image.size
    is_transposed = orientation >= 5
    size_hw = (width, height) if is_transposed else (height, width)
    return ImageHeader(str(image.format), size_hw, orientation)


def read_orientation(image: Image.Image) -> int:
    """Return the EXIF orientation (1..8) without decoding; 1 where the tag is absent or invalid."""
    if image.format == "TIFF":  # Pillow itself turns TIFF files upright
        return 1
    try:
        exif = Image.Exif()
        exif.load(image.info.get("exif") or b"")
        value = exif.get(ExifTags.Base.Orientation, 1)
    except Exception:  # noqa: BLE001 - broken metadata is no reason to refuse the image
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1
