"""Bend prints: around bottles and cans, or with wrinkles."""

import cv2
import numpy as np

from pipeline.training.synthetic.materials import smooth_noise
from pipeline.training.synthetic.print_layer import Code, PrintLayer


def warp_onto_cylinder(rng: np.random.Generator, thing: PrintLayer) -> PrintLayer:
    """Warp a print onto an upright or a lying cylinder, seen slightly from above.

    The sides are compressed and darker, and rows become arcs.
    """
    if rng.random() < 0.3:
        return _transpose(_warp_onto_upright_cylinder(rng, _transpose(thing)))
    return _warp_onto_upright_cylinder(rng, thing)


def _transpose(thing: PrintLayer) -> PrintLayer:
    codes = tuple((label, np.ascontiguousarray(points[:, ::-1])) for label, points in thing.codes)
    alpha = None if thing.alpha is None else np.ascontiguousarray(thing.alpha.T)
    return PrintLayer(np.ascontiguousarray(thing.pixels.transpose(1, 0, 2)), codes, alpha)


def _warp_onto_upright_cylinder(rng: np.random.Generator, thing: PrintLayer) -> PrintLayer:
    """Warp a print onto an upright cylinder.

    x = half * sin(t) / sin(a), where the angle t on the cylinder goes from -a to a. y grows by the
    depth of the arc at x.
    """
    height, width = thing.size_hw
    angle, drop = rng.uniform(0.4, 1.35), rng.uniform(-0.12, 0.2) * width
    half = width / 2

    def arc(t: np.ndarray) -> np.ndarray:
        return drop * (np.cos(t) - np.cos(angle)) / (1 - np.cos(angle))

    low, high = min(0.0, drop), max(0.0, drop)
    new_height = int(height + high - low)
    t = np.arcsin(
        np.clip((np.arange(width, dtype=np.float32) + 0.5 - half) / half * np.sin(angle), -1, 1)
    )
    source_x = np.broadcast_to(
        (half + t / angle * half - 0.5).astype(np.float32), (new_height, width)
    )
    rows = np.arange(new_height, dtype=np.float32)[:, None] + np.float32(low)
    source_y = (rows - arc(t)[None]).astype(np.float32)
    codes = []
    for label, points in thing.codes:
        turn = (points[:, 0] - half) / half * angle
        bent = np.stack(
            [half + half * np.sin(turn) / np.sin(angle), points[:, 1] + arc(turn) - low], 1
        )
        codes.append((label, bent.astype(np.float32)))
    shade = np.cos(t * rng.uniform(0.6, 1.0) + rng.uniform(-0.3, 0.3))
    return _remap(thing, source_x, source_y, codes, np.clip(shade, 0.2, 1)[None])


def apply_wrinkles(rng: np.random.Generator, thing: PrintLayer) -> PrintLayer:
    """Displace the points by a smooth random field, and shade the print by the field's slope."""
    height, width = thing.size_hw
    cells = (int(rng.integers(2, 7)), int(rng.integers(2, 7)))
    reach = rng.uniform(0.1, 0.45) * min(height / cells[0], width / cells[1])
    field = (smooth_noise(rng, (height, width), cells, 2) - 0.5) * np.float32(2 * reach * 0.6)
    x, y = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)[:, None]
    codes = []
    for label, points in thing.codes:
        at = np.clip(points.astype(int), 0, (width - 1, height - 1))
        codes.append(
            (label, points - field[at[:, 1], at[:, 0]])
        )  # a first-order approximation is enough, because the field is smooth
    slope = (
        cv2.Sobel(field[..., 0], cv2.CV_32F, 1, 0)
        if rng.random() < 0.8
        else np.zeros((height, width), np.float32)
    )
    shade = np.clip(1 + slope * rng.uniform(0, 0.35), 0.5, 1.3)
    return _remap(thing, x + field[..., 0], y + field[..., 1], codes, shade)


def _remap(
    thing: PrintLayer,
    source_x: np.ndarray,
    source_y: np.ndarray,
    codes: list[Code],
    shade: np.ndarray,
) -> PrintLayer:
    source_x, source_y = np.ascontiguousarray(source_x), np.ascontiguousarray(source_y)
    pixels = cv2.remap(
        thing.pixels, source_x, source_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    alpha = thing.alpha if thing.alpha is not None else np.full(thing.size_hw, 255, np.uint8)
    alpha = cv2.remap(
        alpha, source_x, source_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0
    )
    gain = np.broadcast_to(shade, thing.size_hw if shade.shape[0] > 1 else pixels.shape[:2]).astype(
        np.float32
    )
    return PrintLayer(
        cv2.multiply(pixels, cv2.merge([gain] * 3), dtype=cv2.CV_8U), tuple(codes), alpha
    )
