"""Decode image files to upright RGB.

JPEG files are decoded by the fast decoder (`jpeg_decoder.py`), other formats by Pillow. If the fast
decoder refuses a file, Pillow decodes it or raises the final error. Both give the same pixels for a
JPEG (a test compares them), so a result does not depend on which of the two decoded it.
"""

import io
from collections.abc import Sequence
from importlib.metadata import version
from typing import BinaryIO

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pipeline.core.errors import detach_error
from pipeline.core.types import InputError, Status
from pipeline.inputs.decoding.deep_samples import read_deep_samples
from pipeline.inputs.decoding.diagnosis import diagnose_failure
from pipeline.inputs.decoding.formats import JPEG_XL
from pipeline.inputs.decoding.header import OpenedImage, open_image
from pipeline.inputs.decoding.jpeg_decoder import JPEG_DECODER, decode_jpeg
from pipeline.inputs.decoding.jpeg_end import complete_jpeg, find_scan, has_end
from pipeline.inputs.decoding.levels import map_levels
from pipeline.inputs.decoding.notes import DecodingNotes
from pipeline.inputs.decoding.optional_formats import describe_installed, load_optional
from pipeline.inputs.decoding.pillow_modes import convert_to_rgb
from pipeline.inputs.decoding.pixel_options import AS_STORED, PixelOptions
from pipeline.inputs.decoding.tiff_decoder import decode_tiff

IMAGE_DECODER = f"jpeg: {JPEG_DECODER}, rest: pillow {version('pillow')}{describe_installed()}"

# EXIF orientation -> (transpose, flip vertically, flip horizontally). They are applied in this
# order to (3, H, W).
_UPRIGHT = {
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}


class CpuImageDecoder:
    """Decodes image files one by one on the CPU."""

    name = IMAGE_DECODER
    is_batched = False

    def __init__(self, options: PixelOptions = AS_STORED) -> None:
        self.options, self.notes = options, DecodingNotes()

    def decode_many(self, files: Sequence[bytes], max_pixels: int) -> Sequence[Tensor | InputError]:
        """Return the pixels of each file, or the error of a file that cannot be decoded."""
        return [decode_or_error(data, max_pixels, self.options, self.notes) for data in files]

    def log_notes(self) -> None:
        """Log what was noticed about the decoded files, once."""
        self.notes.log()


def decode_or_error(
    data: bytes,
    max_pixels: int,
    options: PixelOptions = AS_STORED,
    notes: DecodingNotes | None = None,
) -> Tensor | InputError:
    """Call `decode_image`, and return its InputError instead of raising it."""
    try:
        return decode_image(data, max_pixels, options, notes)
    except InputError as error:
        return detach_error(error)


def decode_image(
    data: bytes,
    max_pixels: int,
    options: PixelOptions = AS_STORED,
    notes: DecodingNotes | None = None,
) -> Tensor:
    """Decode a whole file to (3, H, W) uint8 RGB, upright.

    The tensor keeps the decoder's memory layout, mostly (H, W, 3), because a copy to another layout
    takes longer than it saves. Palettes and CMYK are converted. 16-bit grey is scaled to 8 bits.
    For 16-bit colour the upper eight bits are kept. `options` may change both. Alpha is dropped, as
    torchvision's decoders do. The result for an animation is its first frame, for a
    TIFF file its first page.

    Args:
        data: The file.
        max_pixels: An image with more pixels is not decoded.
        options: How to choose channels and brightness.
        notes: Collects what is to be said of the files of a run.

    Raises:
        InputError: EMPTY, UNSUPPORTED, TRUNCATED, CORRUPT, TOO_LARGE or OUT_OF_MEMORY.
    """
    if not data:
        raise InputError(Status.EMPTY, "the file has zero bytes")

    with open_image(io.BytesIO(data), max_pixels) as opened:
        pixels = _decode(opened, data, max_pixels, options)
        if notes is not None:
            notes.take(data, opened, pixels, options)
    return pixels


def turn_upright(pixels: Tensor, orientation: int) -> Tensor:
    """Turn pixels (3, H, W) from their stored orientation (EXIF, 1..8) to upright."""
    transpose, vertical, horizontal = _UPRIGHT.get(orientation, (False, False, False))
    if transpose:
        pixels = pixels.transpose(1, 2)
    axes = [axis for axis, flipped in ((1, vertical), (2, horizontal)) if flipped]
    return pixels.flip(axes) if axes else pixels


def _decode(opened: OpenedImage, data: bytes, max_pixels: int, options: PixelOptions) -> Tensor:
    """Decode an opened image to (3, H, W) uint8 RGB, upright. `data` is the whole file."""
    header, pixels = opened.header, None
    if header.format in ("JPEG", "MPO"):
        pixels = _decode_jpeg(opened.picture, len(data))
    if pixels is None or _turn_size(pixels, header.orientation) != header.size_hw:
        try:
            array, orientation = _decode_with_pillow(opened, max_pixels, options)
        except InputError:
            raise
        except Exception as error:  # noqa: BLE001 - hostile bytes raise anything
            raise diagnose_failure(data, error) from None
        return turn_upright(torch.from_numpy(array).permute(2, 0, 1), orientation)
    return turn_upright(pixels, header.orientation)


def _turn_size(pixels: Tensor, orientation: int) -> tuple[int, int]:
    height, width = pixels.shape[1:]
    return (width, height) if orientation >= 5 else (height, width)


def _decode_jpeg(picture: BinaryIO, n_bytes: int) -> Tensor | None:
    """Return pixels (3, H, W) as stored, or None if the fast decoder refuses the file.

    Raises:
        InputError: The file ends before its pixels do.
    """
    picture.seek(0)
    plain = picture.read()
    if find_scan(plain) is not None and not has_end(plain):
        completed = complete_jpeg(plain)
        if completed is None:
            raise InputError(
                Status.TRUNCATED, f"JPEG ends too early after {n_bytes} bytes: pixels are missing"
            )
        plain = completed
    try:
        return decode_jpeg(plain)
    except (RuntimeError, ValueError):
        return None


def _decode_with_pillow(
    opened: OpenedImage, max_pixels: int, options: PixelOptions
) -> tuple[np.ndarray, int]:
    """Decode an image to (H, W, 3) uint8 RGB, and return the orientation that it still needs."""
    header = opened.header
    if opened.directory is not None:
        array = decode_tiff(opened.directory, opened.picture, max_pixels, options)
        return array, header.orientation
    if header.format == JPEG_XL:
        return _decode_jxl(opened)

    image = opened.image
    if image is None:
        raise ValueError("the file was not opened")
    if header.bits > 8 and options.levels != "full" and header.format in ("PNG", "PPM"):
        opened.picture.seek(0)
        samples = read_deep_samples(header.format, opened.picture.read())
        mapped = map_levels(samples, options, None)
        array = np.array(np.broadcast_to(mapped, (*mapped.shape[:2], 3)))
    else:
        array = convert_to_rgb(image, options)
    return array, header.orientation


def _decode_jxl(opened: OpenedImage) -> tuple[np.ndarray, int]:
    """Decode a JPEG XL file. libjxl turns the picture, unless it gives back a JPEG file."""
    opened.picture.seek(0)
    with Image.open(opened.picture, formats=(load_optional(JPEG_XL),)) as image:
        is_jpeg = bool(getattr(image, "jpeg", False))
        return convert_to_rgb(image), opened.header.orientation if is_jpeg else 1
