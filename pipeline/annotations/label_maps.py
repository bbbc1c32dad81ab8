"""Read label maps: images whose pixels are classes. 0 is the background, 255 is ignored."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from pipeline.annotations.class_lists import Colour
from pipeline.annotations.dataset_listing import ListedImage, Mask
from pipeline.core.types import InputError, Status
from pipeline.ops.masks import IGNORED_LABEL

_INDEXED = ("P", "L")
_COLOURED = ("RGB", "RGBA")


def read_label_map(
    path: Path, size_hw: tuple[int, int] | None, values: Mapping[Colour, int] | None = None
) -> np.ndarray:
    """Read the values of a PNG, (H, W) uint8: palette indices or grey values.

    Args:
        path: The file.
        size_hw: The size of its image; None if it is not known.
        values: The value of each colour. A picture in these colours has the values of its colours.

    Raises:
        InputError: The file is broken, or has another mode, size or colour.
        OSError: The file cannot be read.
    """
    from PIL import Image

    try:
        with Image.open(path, formats=("PNG",)) as image:
            if size_hw is not None and image.size != size_hw[::-1]:
                (width, height), (right_height, right_width) = image.size, size_hw
                raise InputError(
                    Status.UNSUPPORTED,
                    f"{path.name} has {width}x{height} pixels; "
                    f"its image has {right_width}x{right_height}, upright",
                )
            if image.mode in _COLOURED and values:
                return _find_values(path, np.array(image.convert("RGB")), values)
            if image.mode not in _INDEXED:
                raise InputError(
                    Status.UNSUPPORTED,
                    f"{path.name} has pixels of mode {image.mode}; expected P or L, whose values "
                    "are classes, or colours with a labelmap.txt of lines name:red,green,blue::",
                )
            indices = np.array(image)
            if values and image.mode == "P":
                return _find_palette_values(indices, image.getpalette("RGB") or [], values)
            return indices
    except (ValueError, SyntaxError) as error:  # Pillow raises either for a broken PNG
        raise InputError(Status.CORRUPT, f"{path.name}: {error}") from None


def _find_values(path: Path, pixels: np.ndarray, values: Mapping[Colour, int]) -> np.ndarray:
    """Return the value of each pixel's colour: (H, W, 3) uint8 -> (H, W) uint8."""
    codes = pixels.astype(np.int64) @ (1 << 16, 1 << 8, 1)
    known = np.array([(r << 16) + (g << 8) + b for r, g, b in values], np.int64)
    order = np.argsort(known)
    at = np.searchsorted(known[order], codes).clip(max=len(known) - 1)
    wrong = known[order][at] != codes
    if wrong.any():
        red, green, blue = pixels[wrong][0].tolist()
        raise InputError(
            Status.UNSUPPORTED,
            f"{path.name} has the colour {red},{green},{blue}, which labelmap.txt does not name",
        )
    return np.array(list(values.values()), np.uint8)[order][at]


def _find_palette_values(
    indices: np.ndarray, palette: list[int], values: Mapping[Colour, int]
) -> np.ndarray:
    """Return the values of the colours of palette indices, or the indices in another palette."""
    colours = [tuple(palette[i : i + 3]) for i in range(0, len(palette), 3)]
    used = np.unique(indices).tolist()
    if any(i >= len(colours) or colours[i] not in values for i in used if i != IGNORED_LABEL):
        return indices
    table = np.arange(256, dtype=np.uint8)
    for i in used:
        if i < len(colours) and colours[i] in values:
            table[i] = values[colours[i]]
    return table[indices]


def draw_label_map(image: ListedImage, size_hw: tuple[int, int]) -> np.ndarray:
    """Draw the masks of an image, (H, W) uint8: class index + 1, 0 background, 255 ignored.

    Raises:
        InputError: A mask cannot be decoded.
    """
    height, width = size_hw
    scale = (width, height) if image.fractions else (1, 1)
    masks = [
        tuple((polygon.reshape(-1, 2) * scale).ravel() for polygon in mask)
        if isinstance(mask, tuple)
        else mask
        for mask in image.masks or ()
    ]
    crowds = [False] * len(masks) if image.crowd is None else image.crowd.tolist()
    return combine_masks(image.labels + 1, masks, crowds, size_hw).astype(np.uint8)


def combine_masks(
    values: np.ndarray,
    masks: Sequence[Mask | None],
    crowds: Sequence[bool],
    size_hw: tuple[int, int],
) -> np.ndarray:
    """Combine masks to one label map, (H, W) int64.

    Pixels of a crowd and pixels where two classes overlap are ignored (255), as in torchvision's
    reference script for COCO.

    Raises:
        InputError: A mask cannot be decoded.
    """
    found = np.zeros(size_hw, np.int64)
    for value, mask, crowd in zip(values.tolist(), masks, crowds, strict=True):
        if mask is None:
            continue
        inside = decode_mask(mask, size_hw) > 0
        other = inside & (found > 0) & (found != value)
        found[inside] = IGNORED_LABEL if crowd else value
        found[other] = IGNORED_LABEL
    return found


def decode_mask(mask: Mask, size_hw: tuple[int, int]) -> np.ndarray:
    """Decode a mask to (H, W) uint8, 0 or 1. Raises InputError for invalid run lengths."""
    from pycocotools import mask as coco_mask

    try:
        if isinstance(mask, tuple):
            runs = coco_mask.merge(coco_mask.frPyObjects(list(mask), *size_hw))
        else:
            runs = (
                coco_mask.frPyObjects(mask, *size_hw) if isinstance(mask["counts"], list) else mask
            )
        found: np.ndarray = coco_mask.decode(runs)
    except (ValueError, TypeError) as error:
        raise InputError(
            Status.CORRUPT, f"a mask of its annotations cannot be read: {error}"
        ) from None
    return found
