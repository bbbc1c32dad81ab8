"""Damage prints: scratches, stains, rubbed ink, folds and fingers; or show them on a screen."""

from dataclasses import replace

import cv2
import numpy as np

from pipeline.training.synthetic.materials import fine_noise, random_colour, smooth_noise
from pipeline.training.synthetic.print_layer import PrintLayer

# Skin colours from light to dark, RGB. Each is the brightest tone of a finger.
_SKIN = ((236, 188, 160), (205, 150, 120), (150, 100, 75), (95, 62, 48))


def apply_wear(rng: np.random.Generator, thing: PrintLayer) -> PrintLayer:
    """Damage 30 % of the prints, each in one way that leaves its codes recognizable."""
    if rng.random() > 0.3:
        return thing
    makers = (_add_scratches, _rub_off_ink, _add_stain, _add_fold, _show_on_screen, _add_fingers)
    pixels = makers[int(rng.choice(6, p=(0.22, 0.16, 0.14, 0.12, 0.22, 0.14)))](
        rng, thing.pixels.copy()
    )
    return replace(thing, pixels=pixels)


def _add_scratches(rng: np.random.Generator, pixels: np.ndarray) -> np.ndarray:
    height, width = pixels.shape[:2]
    fill = (
        random_colour(rng, 150, 255, 0.2) if rng.random() < 0.7 else random_colour(rng, 0, 90, 0.3)
    )
    for _ in range(int(rng.integers(1, 9))):
        start, step = (
            rng.uniform(0, 1, 2) * (width, height),
            rng.normal(0, 0.12, (4, 2)) * (width, height),
        )
        points = (start + np.cumsum(step, 0)).astype(np.int32)
        cv2.polylines(
            pixels,
            [points],
            False,
            fill,
            max(1, int(width * rng.uniform(0.002, 0.012))),
            cv2.LINE_AA,
        )
    return pixels


def _rub_off_ink(rng: np.random.Generator, pixels: np.ndarray) -> np.ndarray:
    """Remove ink in small spots, as on old labels or labels from bad printers."""
    size_hw = pixels.shape[0], pixels.shape[1]
    spots: np.ndarray = cv2.GaussianBlur(fine_noise(rng, size_hw), (0, 0), rng.uniform(0.5, 2.0))
    spots = spots / max(1e-6, float(spots.std())) + 2 * (smooth_noise(rng, size_hw, (3, 3)) - 0.5)
    cover = np.clip((spots - rng.uniform(1.3, 2.2)) * 2, 0, 1).astype(np.float32)
    light = np.empty_like(pixels)
    light[:] = np.percentile(pixels[::7, ::7].reshape(-1, 3), 85, axis=0).astype(np.uint8)
    return cv2.blendLinear(light, pixels, cover, 1 - cover)


def _add_stain(rng: np.random.Generator, pixels: np.ndarray) -> np.ndarray:
    """Add a dark or yellow cloud, like a stain of water, grease or dirt."""
    size_hw = pixels.shape[0], pixels.shape[1]
    depth = np.clip(smooth_noise(rng, size_hw, (4, 4)) * 3 - 1.3, 0, 1) * rng.uniform(0.1, 0.5)
    tint = rng.uniform(0.5, 1, 3)
    return cv2.multiply(
        pixels, cv2.merge([1 - depth * np.float32(value) for value in tint]), dtype=cv2.CV_8U
    )


def _add_fold(rng: np.random.Generator, pixels: np.ndarray) -> np.ndarray:
    """Darken one side of a bright line: a crease, the edge of a box, clear tape."""
    height, width = pixels.shape[:2]
    y, x = np.ogrid[:height, :width]
    angle = rng.uniform(0, np.pi)
    side = (x - width * rng.uniform(0.2, 0.8)) * np.cos(angle) + (
        y - height * rng.uniform(0.2, 0.8)
    ) * np.sin(angle)
    reach = max(1.0, 0.01 * width)
    gain = (
        1
        - rng.uniform(0.05, 0.4) * (side > 0)
        + rng.uniform(0, 0.4) * np.exp(-((side / reach) ** 2))
    )
    return cv2.multiply(pixels, cv2.merge([gain.astype(np.float32)] * 3), dtype=cv2.CV_8U)


def _show_on_screen(rng: np.random.Generator, pixels: np.ndarray) -> np.ndarray:
    """Add a display's pixel grid, which causes moiré, its backlight and a slight colour cast."""
    height, width = pixels.shape[:2]
    pitch, depth = rng.uniform(2.0, 4.5), rng.uniform(0.08, 0.4)
    columns = 1 - depth * (0.5 + 0.5 * np.cos(2 * np.pi * np.arange(width) / pitch))
    rows = 1 - depth * (
        0.5 + 0.5 * np.cos(2 * np.pi * np.arange(height) / pitch + rng.uniform(0, 6))
    )
    gain = np.outer(rows, columns).astype(np.float32)
    lifted = cv2.convertScaleAbs(pixels, alpha=0.85, beta=float(rng.uniform(5, 35)))
    tint = rng.uniform(0.85, 1.15, 3) * (0.92, 1.0, 1.1)
    return cv2.multiply(
        lifted, cv2.merge([gain * np.float32(value) for value in tint]), dtype=cv2.CV_8U
    )


def _add_fingers(rng: np.random.Generator, pixels: np.ndarray) -> np.ndarray:
    """Draw one or two fingertips over an edge."""
    height, width = pixels.shape[:2]
    skin = np.array(_SKIN[int(rng.integers(0, 4))], float)
    thick = min(height, width) * rng.uniform(0.06, 0.13)
    for _ in range(int(rng.integers(1, 3))):
        horizontal = rng.random() < 0.5
        far = rng.random() < 0.5
        edge = (width if horizontal else height) * far
        along = (height if horizontal else width) * rng.uniform(0.1, 0.9)
        into = thick * rng.uniform(0.3, 1.6) * (-1 if far else 1)
        tip = (edge + into, along) if horizontal else (along, edge + into)
        root = (
            (edge - 4 * into, along + rng.normal(0, 1) * thick)
            if horizontal
            else (along + rng.normal(0, 1) * thick, edge - 4 * into)
        )
        for shrink, shade in ((1.0, 0.72), (0.85, 0.9), (0.6, 1.0)):
            ends = [(int(x), int(y)) for x, y in (tip, root)]
            fill = tuple(float(value) for value in skin * shade)
            cv2.line(pixels, ends[0], ends[1], fill, max(2, int(2 * thick * shrink)), cv2.LINE_AA)
    return pixels
