"""Crop windows, and the file and folder names of crops."""

from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath

import numpy as np

from pipeline.core.keys import fit_name
from pipeline.core.types import InputError, Status


def compute_crop_window(
    box_xyxy: np.ndarray, margin: float, size_hw: tuple[int, int]
) -> tuple[int, int, int, int]:
    """Return the window of whole pixels that covers a box and a margin around it.

    Args:
        box_xyxy: (4,), pixels of the upright original.
        margin: Added on each side, as a share of the box's longer side.
        size_hw: Height and width of the image. The window is clipped to it.

    Returns:
        x_min, y_min, x_max, y_max in pixels; x_max and y_max are exclusive.

    Raises:
        InputError: The box lies outside the image.
    """
    x_min, y_min, x_max, y_max = (float(edge) for edge in box_xyxy)
    padding = margin * max(x_max - x_min, y_max - y_min, 0.0)
    height, width = size_hw
    left = max(0, int(np.floor(x_min - padding)))
    top = max(0, int(np.floor(y_min - padding)))
    right = min(width, int(np.ceil(x_max + padding)))
    bottom = min(height, int(np.ceil(y_max + padding)))

    if left >= right or top >= bottom:
        raise InputError(
            Status.MODEL_ERROR,
            f"the box {x_min:.0f} {y_min:.0f} {x_max:.0f} {y_max:.0f} lies outside the image",
        )
    return left, top, right, bottom


def make_crop_key(key: str, number: int) -> str:
    """Return the key of one detection's crop: `sub/a.jpg`, 2 -> `sub/a.jpg-002.jpg`.

    A name that is too long is cut and a hash of the whole name is appended.
    """
    path = PurePosixPath(key)
    return str(path.with_name(fit_name(path.name, f"-{number:03d}.jpg")))


def name_class_folders(names: Sequence[str]) -> list[str]:
    """Return one folder name per class id. No two classes share a folder.

    The class id is appended where two names differ only by case, because some file systems
    ignore case. A name that is too long is cut and a hash of the whole name is appended.
    """
    plain = (
        "".join("_" if letter in "/\\\0" else letter for letter in name).strip(". ")
        for name in names
    )
    safe = [fit_name(name or "class") for name in plain]
    occurrences = Counter(name.casefold() for name in safe)
    folders: dict[str, str] = {}  # case-folded name -> name

    for class_id, name in enumerate(safe):
        folder = name if occurrences[name.casefold()] == 1 else fit_name(name, f"-{class_id}")
        while folder.casefold() in folders:
            folder = fit_name(folder, f"-{class_id}")
        folders[folder.casefold()] = folder
    return list(folders.values())
