"""Pieces of pictures, and the names of their files."""

from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath

import numpy as np

from pipeline.core.keys import fit_name
from pipeline.core.types import InputError, Status


def compute_crop_window(
    box_xyxy: np.ndarray, margin: float, size_hw: tuple[int, int]
) -> tuple[int, int, int, int]:
    """The whole pixels that a box touches, and on each side `margin` times its longer side more, within the image: (x_min,
    y_min, x_max, y_max), the ends not included. Raises InputError for a box beside the image."""
    x_min, y_min, x_max, y_max = (float(edge) for edge in box_xyxy)
    more = margin * max(x_max - x_min, y_max - y_min, 0.0)
    height, width = size_hw
    left, top = max(0, int(np.floor(x_min - more))), max(0, int(np.floor(y_min - more)))
    right, bottom = min(width, int(np.ceil(x_max + more))), min(height, int(np.ceil(y_max + more)))
    if left >= right or top >= bottom:
        raise InputError(
            Status.MODEL_ERROR,
            f"the box {x_min:.0f} {y_min:.0f} {x_max:.0f} {y_max:.0f} shows nothing of it",
        )
    return left, top, right, bottom


def make_crop_key(key: str, number: int) -> str:
    """Key of the picture of an image's detection with this number: `sub/a.jpg`, 2 -> `sub/a.jpg-002.jpg`. A name too long
    for that keeps its beginning and a hash of all of it."""
    path = PurePosixPath(key)
    return str(path.with_name(fit_name(path.name, f"-{number:03d}.jpg")))


def name_class_folders(names: Sequence[str]) -> list[str]:
    """A folder for each class id, never one for two, whatever the classes are called. The id is added where it is needed to
    tell them apart, also on file systems that know no capital letters; too long a name keeps its beginning and a hash."""
    plain = (
        "".join("_" if letter in "/\\\0" else letter for letter in name).strip(". ")
        for name in names
    )
    safe = [fit_name(name or "class") for name in plain]
    same = Counter(name.casefold() for name in safe)
    folders: dict[str, str] = {}  # as a file system without capital letters sees it -> as it is
    for i, name in enumerate(safe):
        folder = name if same[name.casefold()] == 1 else fit_name(name, f"-{i}")
        while folder.casefold() in folders:
            folder = fit_name(folder, f"-{i}")
        folders[folder.casefold()] = folder
    return list(folders.values())
