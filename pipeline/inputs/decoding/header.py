"""Read the size and orientation of an image file from its header, without decoding."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

from PIL import Image

from pipeline.core.types import InputError, Status
from pipeline.inputs.decoding.deep_samples import count_bits
from pipeline.inputs.decoding.diagnosis import DIAGNOSED_BYTES, diagnose_failure, guess_format
from pipeline.inputs.decoding.formats import HEIF, IMAGE_FORMATS, JPEG_XL
from pipeline.inputs.decoding.jpeg_segments import separate_jpeg
from pipeline.inputs.decoding.jxl_header import read_jxl_header
from pipeline.inputs.decoding.optional_formats import load_optional
from pipeline.inputs.decoding.orientation import choose_orientation
from pipeline.inputs.decoding.png_chunks import separate_png
from pipeline.inputs.decoding.separated import Separated
from pipeline.inputs.decoding.tiff_directory import (
    BITS,
    LENGTH,
    SAMPLES,
    WIDTH,
    TiffDirectory,
    find_page,
    separate_tiff,
)
from pipeline.inputs.decoding.webp_chunks import separate_webp

Image.init()  # load Pillow's plug-ins now, before several threads need them at once
# `open_image` checks max_pixels instead. So each run has its own limit and gets an InputError, and
# Python's global warning filters are not needed.
Image.MAX_IMAGE_PIXELS = None

# A file of this many bytes is never too large, because a small image may have large metadata.
_MIN_FILE_LIMIT = 64 << 20
_MAX_BYTES_PER_PIXEL = 8  # 16-bit RGBA, uncompressed
_SAMPLE_BYTES = 8  # of a pixel, on average: 16-bit RGBA
_HEAD_BYTES = 4096

# Formats whose decoders stumble over metadata, which is therefore taken away. Pillow reads the
# orientation of the others.
_SEPARATORS: dict[str, Callable[[BinaryIO], Separated]] = {
    "JPEG": separate_jpeg,
    "PNG": separate_png,
    "WEBP": separate_webp,
}


@dataclass(frozen=True)
class ImageHeader:
    """Content of an image file's header. `size_hw` is the size of the upright image in pixels."""

    format: str
    size_hw: tuple[int, int]
    orientation: int  # EXIF, 1..8
    bits: int = 8  # of a sample
    channels: int = 3  # of a pixel in the file; those of a TIFF file may be many

    @property
    def sample_bytes(self) -> int:
        """Bytes of all samples, decoded."""
        return self.size_hw[0] * self.size_hw[1] * self.channels * max(1, -(-self.bits // 8))


@dataclass(frozen=True)
class OpenedImage:
    """An image file whose header was read, to be decoded. It is a context manager."""

    header: ImageHeader
    picture: BinaryIO  # the file without metadata
    image: Image.Image | None = None  # opened by Pillow; None for TIFF and JPEG XL
    directory: TiffDirectory | None = None  # of a TIFF file

    def __enter__(self) -> "OpenedImage":
        return self

    def __exit__(self, *error: object) -> None:
        if self.image is not None:
            self.image.close()


def read_image_header(file: BinaryIO, max_pixels: int) -> ImageHeader:
    """Read format, size and orientation without decoding. Of a TIFF file, those of the first page.

    Raises:
        InputError: EMPTY, UNSUPPORTED, TRUNCATED, CORRUPT or TOO_LARGE.
    """
    check_file_size(file, max_pixels)
    with open_image(file, max_pixels) as opened:
        return opened.header


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


def open_image(file: BinaryIO, max_pixels: int) -> OpenedImage:
    """Read the header of an image file, but no pixels.

    Raises:
        InputError: UNSUPPORTED, TRUNCATED, CORRUPT or TOO_LARGE.
    """
    try:
        file.seek(0)
        opened = _open(file, file.read(_HEAD_BYTES))
    except InputError:
        raise
    except Exception as error:  # noqa: BLE001 - hostile bytes raise anything: struct.error, SyntaxError, MemoryError ...
        file.seek(0)
        raise diagnose_failure(file.read(DIAGNOSED_BYTES), error) from None

    header = opened.header
    height, width = header.size_hw
    if width * height > max_pixels:
        stored = (height, width) if header.orientation >= 5 else (width, height)
        raise InputError(
            Status.TOO_LARGE,
            f"{stored[0]}x{stored[1]} is {width * height} pixels, more than "
            f"max_pixels={max_pixels}",
            size_hw=header.size_hw,
        )
    if header.sample_bytes > _SAMPLE_BYTES * max_pixels:
        raise InputError(
            Status.TOO_LARGE,
            f"{width}x{height} pixels take {header.sample_bytes} bytes, more than the "
            f"{_SAMPLE_BYTES * max_pixels} that max_pixels={max_pixels} allows "
            f"({_SAMPLE_BYTES} for each pixel)",
            size_hw=header.size_hw,
        )
    return opened


def _open(file: BinaryIO, head: bytes) -> OpenedImage:
    name = guess_format(head) or ""
    if name == "TIFF" and (directory := find_page(file, 0)) is not None:
        return _open_tiff(directory)
    if name == JPEG_XL:
        load_optional(name)
        stored_hw, orientation = read_jxl_header(file)
        return OpenedImage(_make_header(name, stored_hw, orientation), file)

    separated = _SEPARATORS[name](file) if name in _SEPARATORS else Separated(file)
    formats = (load_optional(name),) if name == HEIF else IMAGE_FORMATS
    separated.picture.seek(0)
    image = Image.open(separated.picture, formats=formats)
    orientation = separated.orientation
    if name not in (*_SEPARATORS, HEIF):  # libheif turns the picture itself
        orientation = _read_pillow_orientation(image)
    bits = count_bits(name, head) if image.mode != "P" else 8
    header = _make_header(str(image.format), image.size[::-1], orientation, bits)
    return OpenedImage(header, separated.picture, image)


def _open_tiff(directory: TiffDirectory) -> OpenedImage:
    separated = separate_tiff(directory)
    stored_hw = directory.read_first(LENGTH, 0), directory.read_first(WIDTH, 0)
    if min(stored_hw) < 1:
        Image.open(separated.picture, formats=("TIFF",))  # raises
        raise ValueError("its header has no size")
    bits, channels = directory.read_first(BITS, 1), directory.read_first(SAMPLES, 1)
    header = _make_header("TIFF", stored_hw, separated.orientation, bits, channels)
    return OpenedImage(header, separated.picture, directory=directory)


def _make_header(
    name: str, stored_hw: tuple[int, int], orientation: int, bits: int = 8, channels: int = 3
) -> ImageHeader:
    upright_hw = stored_hw[::-1] if orientation >= 5 else stored_hw
    return ImageHeader(name, upright_hw, orientation, bits, channels)


def _read_pillow_orientation(image: Image.Image) -> int:
    """Return the orientation that Pillow found in the metadata of AVIF or GIF.

    For AVIF, Pillow writes the container's own orientation into the EXIF data.
    """
    exif, xmp = image.info.get("exif"), image.info.get("xmp")
    is_gif = image.format == "GIF"
    return choose_orientation(
        [exif] if isinstance(exif, bytes) else [],
        [xmp] if is_gif and isinstance(xmp, bytes) else [],
    )
