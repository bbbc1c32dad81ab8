"""Decode image files to upright RGB.

JPEG files are decoded by the fast decoder (`jpeg_decoder.py`), other formats by Pillow. If the fast
decoder refuses a file, Pillow decodes it or raises the final error. Both give the same pixels for a
JPEG (a test compares them), so a result does not depend on which of the two decoded it.
"""

import io
from collections.abc import Sequence
from importlib.metadata import version

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pipeline.core.errors import detach_error
from pipeline.core.types import InputError, Status
from pipeline.inputs.decoding.diagnosis import diagnose_failure
from pipeline.inputs.decoding.header import describe_image, open_image
from pipeline.inputs.decoding.jpeg_decoder import JPEG_DECODER, decode_jpeg
from pipeline.inputs.decoding.jpeg_segments import hide_exif

IMAGE_DECODER = f"jpeg: {JPEG_DECODER}, rest: pillow {version('pillow')}"

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
_DEEP_GREY = ("I", "I;16", "I;16B", "I;16L", "I;16N")  # Pillow's modes with more than 8 bits


class CpuImageDecoder:
    """Decodes image files one by one on the CPU."""

    name = IMAGE_DECODER
    is_batched = False

    def decode_many(self, files: Sequence[bytes], max_pixels: int) -> Sequence[Tensor | InputError]:
        """Return the pixels of each file, or the error of a file that cannot be decoded."""
        return [decode_or_error(data, max_pixels) for data in files]


def decode_or_error(data: bytes, max_pixels: int) -> Tensor | InputError:
    """Call `decode_image`, and return its InputError instead of raising it."""
    try:
        return decode_image(data, max_pixels)
    except InputError as error:
        return detach_error(error)


def decode_image(data: bytes, max_pixels: int) -> Tensor:
    """Decode a whole file to (3, H, W) uint8 RGB, upright.

    The tensor keeps the decoder's memory layout, mostly (H, W, 3), because a copy to another layout
    takes longer than it saves. Palettes and CMYK are converted. 16-bit grey is scaled to 8 bits.
    For 16-bit colour Pillow keeps the upper eight bits. Alpha is dropped, as torchvision's decoders
    do. The result for an animation is its first frame.

    Raises:
        InputError: EMPTY, UNSUPPORTED, TRUNCATED, CORRUPT, TOO_LARGE or OUT_OF_MEMORY.
    """
    if not data:
        raise InputError(Status.EMPTY, "the file has zero bytes")

    with open_image(io.BytesIO(data), max_pixels) as image:
        header = describe_image(image)
        pixels = _try_fast_decoder(data) if header.format in ("JPEG", "MPO") else None
        if pixels is None or pixels.shape[1:] != image.size[::-1]:
            pixels = _decode_with_pillow(image, data)
    return turn_upright(pixels, header.orientation)


def turn_upright(pixels: Tensor, orientation: int) -> Tensor:
    """Turn pixels (3, H, W) from their stored orientation (EXIF, 1..8) to upright."""
    transpose, vertical, horizontal = _UPRIGHT.get(orientation, (False, False, False))
    if transpose:
        pixels = pixels.transpose(1, 2)
    axes = [axis for axis, flipped in ((1, vertical), (2, horizontal)) if flipped]
    return pixels.flip(axes) if axes else pixels


def _try_fast_decoder(data: bytes) -> Tensor | None:
    """Return pixels (3, H, W) as stored, or None if the fast decoder refuses the file."""
    # Hide the EXIF data: the decoder would turn the image by its own reading of the orientation,
    # and the caller turns it by the header's.
    plain = hide_exif(data)
    try:
        return decode_jpeg(plain) if plain else None
    except (RuntimeError, ValueError):
        return None


def _decode_with_pillow(image: Image.Image, data: bytes) -> Tensor:
    """Decode an open image to (3, H, W) uint8 RGB, as stored.

    `data` is the whole file. It is used to diagnose an error.
    """
    try:
        array = _convert_to_rgb(image)
    except InputError:
        raise
    except Exception as error:  # noqa: BLE001 - hostile bytes raise anything
        raise diagnose_failure(data, error) from None
    return torch.from_numpy(array).permute(2, 0, 1)


def _convert_to_rgb(image: Image.Image) -> np.ndarray:
    """Convert an image of any mode to (H, W, 3) uint8 RGB."""
    if image.mode in _DEEP_GREY:
        grey = np.asarray(image).astype(np.int64)
        if grey.min() < 0 or grey.max() > 65535:
            raise InputError(
                Status.UNSUPPORTED, "32-bit grey values outside 0..65535 have no defined brightness"
            )
        scaled = ((grey + 128) // 257).astype(np.uint8)  # 65535 / 257 = 255
        return np.repeat(scaled[:, :, None], 3, axis=2)
    if image.mode == "F":
        raise InputError(
            Status.UNSUPPORTED,
            "32-bit float pixels have no defined brightness; convert them to 8 bits",
        )
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # Pillow warns if these images are converted to RGB directly
    return np.array(image.convert("RGB"))
