"""Pieces of pictures."""

import numpy as np

from pipeline.types import InputError, Status


def window_of(box_xyxy: np.ndarray, margin: float, size_hw: tuple[int, int]) -> tuple[int, int, int, int]:
    """The whole pixels that a box touches, and on each side `margin` times its longer side more, within the image: (x_min,
    y_min, x_max, y_max), the ends not included. Raises InputError for a box beside the image."""
    x_min, y_min, x_max, y_max = (float(edge) for edge in box_xyxy)
    more = margin * max(x_max - x_min, y_max - y_min, 0.0)
    height, width = size_hw
    left, top = max(0, int(np.floor(x_min - more))), max(0, int(np.floor(y_min - more)))
    right, bottom = min(width, int(np.ceil(x_max + more))), min(height, int(np.ceil(y_max + more)))
    if left >= right or top >= bottom:
        raise InputError(Status.MODEL_ERROR, f"the box {x_min:.0f} {y_min:.0f} {x_max:.0f} {y_max:.0f} shows nothing of it")
    return left, top, right, bottom
