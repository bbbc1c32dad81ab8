"""Read label maps: images whose pixels are classes. 0 is the background, 255 is ignored."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from pipeline.annotations.class_lists import Colour
from pipeline.annotations.dataset_listing import Mask
from pipeline.core.types import InputError, Status
from pipeline.ops.masks import IGNORED_LABEL

_INDEXED = ("P", "L")
_COLOURED = ("RGB", "RGBA")


def read_label_map(
    path: Path, size_hw: tuple[int, int], values: Mapping[Colour, int] | None = None
) -> np.ndarray:
    """Read the values of a PNG, (H, W) uint8: palette indices or grey values.

    Args:
        path: The file.
        size_hw: The size of its image.
        values: The value of each colour. A picture in these colours has the values of its colours.

    Raises:
        InputError: The file is broken, or has another mode, size or colour.
        OSError: The file cannot be read.
    """
    from PIL import Image

    try:
        with Image.open(path, formats=("PNG",)) as image:
            if image.size != size_hw[::-1] or image.mode not in (*_INDEXED, *_COLOURED):
                raise _unsupported(path, image, size_hw)
            if image.mode in _COLOURED:
                if not values:
                    raise _unsupported(path, image, size_hw)
                return _find_values(path, np.array(image.convert("RGB")), values)
            indices = np.array(image)
            if values and image.mode == "P":
                return _find_palette_values(indices, image.getpalette("RGB") or [], values)
            return indices
    except (ValueError, SyntaxError) as error:  # Pillow raises either for a broken PNG
        raise InputError(Status.CORRUPT, f"{path.name}: {error}") from None


def _unsupported(path: Path, image: "object", size_hw: tuple[int, int]) -> InputError:
    width, height = image.size  # type: ignore[attr-defined]
    mode = image.mode  # type: ignore[attr-defined]
    return InputError(
        Status.UNSUPPORTED,
        f"{path.name} has {width}x{height} pixels of mode {mode}; "
        f"expected {size_hw[1]}x{size_hw[0]} of P or L, "
        "which are the size of its image and a mode for class ids, or colours that a labelmap.txt "
        "beside the folder explains (name:red,green,blue::)",
    )


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
