"""Convert an image that Pillow has opened, of any mode, to 8-bit RGB."""

import numpy as np
from PIL import Image

from pipeline.inputs.decoding.levels import map_levels
from pipeline.inputs.decoding.pixel_options import AS_STORED, PixelOptions

DEEP_GREY = ("I", "I;16", "I;16B", "I;16L", "I;16N")  # Pillow's modes with more than 8 bits
_PREMULTIPLIED = {"La": "LA", "RGBa": "RGBA"}


def convert_to_rgb(image: Image.Image, options: PixelOptions = AS_STORED) -> np.ndarray:
    """Convert an image of any mode to (H, W, 3) uint8 RGB. Raises InputError."""
    if image.mode in DEEP_GREY or image.mode == "F":
        values = np.asarray(image)[:, :, None]
        white = 65535 if image.mode.startswith("I;16") else None
        return np.repeat(map_levels(values, options, white), 3, axis=2)
    if image.mode in _PREMULTIPLIED:
        image = image.convert(_PREMULTIPLIED[image.mode])
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # Pillow warns if these images are converted to RGB directly
    return np.array(image.convert("RGB"))
