"""Bytes -> upright RGB. JPEG by the fast decoder (`jpeg.py`), everything else by Pillow.

What the fast decoder refuses is given to Pillow, whose verdict stands. Both give the same pixels for JPEG (a test compares
them), so which of the two decoded an image cannot be told from the result.
"""

import io
import os
from dataclasses import dataclass
from importlib.metadata import version
from typing import BinaryIO

import numpy as np
import torch
from PIL import ExifTags, Image, UnidentifiedImageError
from torch import Tensor

from pipeline.core.types import InputError, Status
from pipeline.inputs.decoding.diagnosis import guess_format, is_truncated
from pipeline.inputs.decoding.jpeg import JPEG_DECODER, decode_jpeg, hide_exif

# Formats of photographs and screenshots. Not in it: those that run code or external programs (EPS), that hold documents
# (PSD, PDF) or measurements (FITS), and JPEG 2000, whose decoder has the longest record of faults.
IMAGE_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "PPM")
# What a source takes for an image by its name. The last four are not decoded, but their owner must be told.
IMAGE_SUFFIXES = frozenset((
    ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff", ".avif",
    ".ppm", ".pgm", ".pbm", ".pnm", ".heic", ".heif", ".jp2", ".jxl",
))  # fmt: skip
IMAGE_DECODER = f"jpeg: {JPEG_DECODER}, rest: pillow {version('pillow')}"

Image.init()  # now, not in the first of several threads that need a plug-in
Image.MAX_IMAGE_PIXELS = (
    None  # the cap is read_header's: per run, typed, and without Python's global warning state
)

# EXIF orientation -> (transpose, flip vertically, flip horizontally), applied in this order to (3, H, W)
_UPRIGHT = {
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}
_LEAST_CAP = 64 << 20  # bytes: small pictures may carry large metadata
_DIAGNOSED = 64 << 20  # bytes looked at to say what is wrong with a file
_DEEP_GREY = ("I", "I;16", "I;16B", "I;16L", "I;16N")


@dataclass(frozen=True)
class ImageHeader:
    """What a file's first bytes say. `size_hw` is that of the upright image, in pixels."""

    format: str
    size_hw: tuple[int, int]
    orientation: int  # EXIF, 1..8


def read_image_header(file: BinaryIO, max_pixels: int) -> ImageHeader:
    """Read the size without decoding. Raises InputError: EMPTY, UNSUPPORTED, TRUNCATED, CORRUPT, TOO_LARGE."""
    check_file_size(file, max_pixels)
    with open_image(file, max_pixels) as image:
        return _header(image)


def check_file_size(file: BinaryIO, max_pixels: int) -> None:
    """Raise InputError, EMPTY or TOO_LARGE, by the number of bytes alone; leaves the file at its beginning."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    if size == 0:
        raise InputError(Status.EMPTY, "the file has zero bytes")
    most = max(_LEAST_CAP, 8 * max_pixels)  # eight bytes a pixel: 16-bit RGBA, uncompressed
    if size > most:
        raise InputError(
            Status.TOO_LARGE,
            f"{size} bytes; no image of max_pixels={max_pixels} needs more than {most}",
        )


def decode_image(data: bytes, max_pixels: int) -> Tensor:
    """Decode a whole file to (3, H, W) uint8 RGB, upright, in the memory layout of its decoder (mostly H, W, 3: a copy to
    another one would take longer than it saves). Raises InputError like `read_header`.

    Palettes and CMYK are converted, 16-bit grey is scaled to 8 (in colour Pillow keeps the upper eight), alpha is dropped as
    torchvision's decoders do, and of an animation the first frame is taken.
    """
    if not data:
        raise InputError(Status.EMPTY, "the file has zero bytes")
    with open_image(io.BytesIO(data), max_pixels) as image:
        header = _header(image)
        pixels = _decode_jpeg(data) if header.format in ("JPEG", "MPO") else None
        if pixels is None or pixels.shape[1:] != image.size[::-1]:
            pixels = _decode_pillow(image, data)
    return turn_upright(pixels, header.orientation)


def turn_upright(pixels: Tensor, orientation: int) -> Tensor:
    """Turn stored (3, H, W) pixels the way EXIF `orientation` (1..8) says they are to be seen."""
    transpose, vertical, horizontal = _UPRIGHT.get(orientation, (False, False, False))
    if transpose:
        pixels = pixels.transpose(1, 2)
    axes = [axis for axis, flipped in ((1, vertical), (2, horizontal)) if flipped]
    return pixels.flip(axes) if axes else pixels


def open_image(file: BinaryIO, max_pixels: int) -> Image.Image:
    """Its header read, its pixels not. Raises InputError like `read_header`."""
    try:
        image = Image.open(file, formats=IMAGE_FORMATS)
    except Exception as error:  # noqa: BLE001 - hostile bytes raise anything: struct.error, SyntaxError, MemoryError ...
        file.seek(0)
        raise _failure(file.read(_DIAGNOSED), error) from None
    width, height = image.size
    if width * height > max_pixels:
        raise InputError(
            Status.TOO_LARGE,
            f"{width}x{height} is {width * height} pixels, more than max_pixels={max_pixels}",
            size_hw=_header(image).size_hw,
        )
    return image


def _header(image: Image.Image) -> ImageHeader:
    orientation = read_orientation(image)
    width, height = image.size
    size_hw = (width, height) if orientation >= 5 else (height, width)
    return ImageHeader(str(image.format), size_hw, orientation)


def read_orientation(image: Image.Image) -> int:
    """The EXIF tag alone, from what is at hand before decoding; 1 where it is absent or nonsense."""
    if image.format == "TIFF":  # Pillow turns these itself, and gives the upright size
        return 1
    try:
        exif = Image.Exif()
        exif.load(image.info.get("exif") or b"")
        value = exif.get(ExifTags.Base.Orientation, 1)
    except Exception:  # noqa: BLE001 - broken metadata is no reason to lose the picture
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _decode_jpeg(data: bytes) -> Tensor | None:
    # One truth about orientation: the header's. The decoder would apply its own reading of the tag.
    plain = hide_exif(data)
    try:
        return decode_jpeg(plain) if plain else None
    except (RuntimeError, ValueError):
        return None


def _decode_pillow(image: Image.Image, data: bytes) -> Tensor:
    try:
        array = _rgb(image)
    except InputError:
        raise
    except Exception as error:  # noqa: BLE001 - see open_image
        raise _failure(data, error) from None
    return torch.from_numpy(array).permute(2, 0, 1)


def _rgb(image: Image.Image) -> np.ndarray:
    """(H, W, 3) uint8."""
    if image.mode in _DEEP_GREY:
        grey = np.asarray(image).astype(np.int64)
        if grey.min() < 0 or grey.max() > 65535:
            raise InputError(
                Status.UNSUPPORTED, "32-bit grey values outside 0..65535 have no defined brightness"
            )
        return np.repeat(
            ((grey + 128) // 257).astype(np.uint8)[:, :, None], 3, axis=2
        )  # 65535 / 257 = 255
    if image.mode == "F":
        raise InputError(
            Status.UNSUPPORTED,
            "32-bit float pixels have no defined brightness; convert them to 8 bits",
        )
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # Pillow warns about converting these to RGB directly
    return np.array(image.convert("RGB"))


def _failure(data: bytes, error: Exception) -> InputError:
    """Name what is wrong with bytes that a decoder refused."""
    if isinstance(error, MemoryError):
        return InputError(Status.OUT_OF_MEMORY, "not enough memory to decode it")
    kind = guess_format(data)
    if kind is None:
        return InputError(
            Status.UNSUPPORTED,
            f"the content is no known image format (begins with {data[:8].hex(' ')})",
        )
    if kind not in IMAGE_FORMATS:
        return InputError(
            Status.UNSUPPORTED,
            f"{kind} files are not decoded; supported: {', '.join(IMAGE_FORMATS)}",
        )
    said = str(error) or type(error).__name__
    if isinstance(
        error, UnidentifiedImageError
    ):  # names a BytesIO object, nothing a reader can use
        said = "its header cannot be read"
    if (
        kind == "TIFF"
        and isinstance(error, UnidentifiedImageError)
        and not is_truncated(data, kind)
    ):
        return InputError(
            Status.UNSUPPORTED,
            "TIFF: pixels of a kind that is not decoded (e.g. float RGB, five channels)",
        )
    if (len(data) < _DIAGNOSED and is_truncated(data, kind)) or "truncated" in said.casefold():
        return InputError(
            Status.TRUNCATED, f"{kind} ends too early after {len(data)} bytes: {said}"
        )
    return InputError(Status.CORRUPT, f"{kind}: {said}")
