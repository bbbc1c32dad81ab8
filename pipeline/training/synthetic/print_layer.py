"""A print: a flat picture with its opacity and its codes, which is placed in a scene."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

Code = tuple[int, np.ndarray]  # class id; outline (N, 2) float32, xy in the pixels of the print


@dataclass(frozen=True)
class PrintLayer:
    """A picture to place in a scene, and the codes on it."""

    pixels: np.ndarray  # (H, W, 3) uint8 RGB
    codes: tuple[Code, ...] = ()
    alpha: np.ndarray | None = None  # (H, W) uint8; None: opaque

    @property
    def size_hw(self) -> tuple[int, int]:
        return self.pixels.shape[0], self.pixels.shape[1]


def rectangle_outline(x0: float, y0: float, x1: float, y1: float, along: int = 5) -> np.ndarray:
    """Return (4 * along, 2) float32 points on the edges of a rectangle, so that it can be bent."""
    t = np.linspace(0, 1, along, endpoint=False)[:, None]
    corners = np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], np.float32)
    following = np.roll(corners, -1, 0)
    return np.concatenate(
        [a + (b - a) * t for a, b in zip(corners, following, strict=True)]
    ).astype(np.float32)


def shift_codes(codes: Sequence[Code], x: float, y: float) -> tuple[Code, ...]:
    return tuple((label, points + np.array([x, y], np.float32)) for label, points in codes)


def stamp_ink(
    canvas: np.ndarray,
    ink: np.ndarray,
    fill: Sequence[float],
    x: int,
    y: int,
    strength: float = 1.0,
) -> None:
    """Draw ink (h, w) uint8 in one colour at (x, y) of the canvas, in place, clipped at edges."""
    top, left = max(0, -y), max(0, -x)
    bottom, right = min(ink.shape[0], canvas.shape[0] - y), min(ink.shape[1], canvas.shape[1] - x)
    if bottom <= top or right <= left:
        return
    region = canvas[y + top : y + bottom, x + left : x + right]
    cover = ink[top:bottom, left:right].astype(np.float32) * np.float32(strength / 255)
    colour = cv2.rectangle(np.empty(region.shape, np.uint8), (0, 0), region.shape[1::-1], fill, -1)
    region[:] = cv2.blendLinear(colour, region, cover, 1 - cover)


def paste_picture(canvas: np.ndarray, picture: np.ndarray, x: int, y: int) -> None:
    """Draw an opaque picture on the canvas at (x, y), in place, clipped at its edges."""
    top, left = max(0, -y), max(0, -x)
    bottom, right = (
        min(picture.shape[0], canvas.shape[0] - y),
        min(picture.shape[1], canvas.shape[1] - x),
    )
    if bottom > top and right > left:
        canvas[y + top : y + bottom, x + left : x + right] = picture[top:bottom, left:right]


def rotate_quarters(thing: PrintLayer, quarters: int) -> PrintLayer:
    """Rotate a print by multiples of 90 degrees, counter-clockwise."""
    height, width = thing.size_hw
    codes = thing.codes
    for _ in range(quarters % 4):
        codes = tuple(
            (label, np.stack([p[:, 1], width - p[:, 0]], 1).astype(np.float32))
            for label, p in codes
        )
        height, width = width, height
    alpha = None if thing.alpha is None else np.ascontiguousarray(np.rot90(thing.alpha, quarters))
    return PrintLayer(np.ascontiguousarray(np.rot90(thing.pixels, quarters)), codes, alpha)
