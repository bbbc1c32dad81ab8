"""Read how a player turns and mirrors the frames of a video."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from av import VideoFrame


@dataclass(frozen=True)
class Orientation:
    """Makes a stored frame upright: first exchange its axes, then mirror it.

    A display matrix that is no multiple of a quarter turn is rounded to the nearest one.
    """

    is_transposed: bool = False
    is_flipped_x: bool = False
    is_flipped_y: bool = False

    def turn(self, stored: np.ndarray) -> np.ndarray:
        """Return a view of the frame (H, W, 3) as it is shown."""
        upright = stored.swapaxes(0, 1) if self.is_transposed else stored
        return upright[:: -1 if self.is_flipped_y else 1, :: -1 if self.is_flipped_x else 1]

    def turn_size_hw(self, size_hw: tuple[int, int]) -> tuple[int, int]:
        """Return the size of the frame as it is shown, in pixels."""
        return size_hw[::-1] if self.is_transposed else size_hw


def read_orientation(frame: VideoFrame) -> Orientation:
    """Read the display matrix (ISO/IEC 14496-12) of a decoded frame."""
    matrix: Any = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return Orientation()
    # A stored point (x, y) is shown at (a x + c y, b x + d y), up to a shift.
    a, b, _, c, d = np.frombuffer(bytes(matrix), dtype=np.int32)[:5].tolist()
    is_transposed = abs(b) > abs(a)
    x, y = (c, b) if is_transposed else (a, d)
    return Orientation(is_transposed, x < 0, y < 0)
