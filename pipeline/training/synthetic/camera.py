"""Simulate a camera on a finished scene: light, lens, sensor and file compression."""

import cv2
import numpy as np

from pipeline.training.synthetic.materials import sensor_noise, smooth_noise


def photograph(
    rng: np.random.Generator, picture: np.ndarray, strength: float = 1.0, least: float = 1000.0
) -> np.ndarray:
    """Apply the effects of a camera to a picture, (H, W, 3) uint8 RGB.

    Args:
        rng: The random generator.
        picture: The scene.
        strength: How often effects occur and how strong they are, 0 to 1.
        least: Side of the smallest code in pixels. It limits the blur.
    """
    if rng.random() < 0.7 * strength:
        picture = _apply_lighting(rng, picture)
    if rng.random() < 0.8 * strength:
        picture = _apply_tone_curve(rng, picture)
    picture = _apply_blur(rng, picture, strength, 0.5 + 0.04 * least)
    if rng.random() < 0.6 * strength:
        picture = _apply_noise(rng, picture)
    if rng.random() < 0.08 * strength:
        picture = cv2.merge([cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)] * 3)
    if rng.random() < 0.15 * strength:
        picture = _sharpen(rng, picture)
    return compress_as_jpeg(rng, picture) if rng.random() < 0.45 * strength else picture


def _apply_lighting(rng: np.random.Generator, picture: np.ndarray) -> np.ndarray:
    """Add uneven light, vignetting, soft shadows and reflections, computed at low resolution."""
    side = 48
    y, x = np.mgrid[:side, :side].astype(np.float32) / side - 0.5
    angle = rng.uniform(0, 2 * np.pi)
    gain = rng.uniform(0.9, 1.2) + rng.uniform(0, 0.8) * (x * np.cos(angle) + y * np.sin(angle))
    gain -= rng.uniform(0, 0.6) * (x**2 + y**2)
    if rng.random() < 0.3:
        gain *= 1 + 0.5 * (smooth_noise(rng, (side, side), (3, 3)) - 0.5)
    if rng.random() < 0.3:
        gain *= _draw_shadow(rng, side)
    gain = np.clip(gain, 0.15, 1.7)
    size = (picture.shape[1], picture.shape[0])
    large = cv2.resize(gain.astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
    picture = cv2.multiply(picture, cv2.merge([large] * 3), dtype=cv2.CV_8U)
    if rng.random() < 0.1:
        centre, spread = rng.uniform(-0.5, 0.5, 2), rng.uniform(0.03, 0.25, 2)
        spot = np.exp(-(((x - centre[0]) / spread[0]) ** 2) - ((y - centre[1]) / spread[1]) ** 2)
        spot = cv2.resize(
            (spot * rng.uniform(60, 300)).clip(0, 255).astype(np.uint8),
            size,
            interpolation=cv2.INTER_LINEAR,
        )
        picture = cv2.add(picture, cv2.merge([spot] * 3))
    return picture


def _draw_shadow(rng: np.random.Generator, side: int) -> np.ndarray:
    shade = np.ones((side, side), np.float32)
    points = rng.uniform(-0.3, 1.3, (int(rng.integers(3, 6)), 2)) * side
    cv2.fillPoly(shade, [points.astype(np.int32)], float(rng.uniform(0.35, 0.8)))
    return cv2.GaussianBlur(shade, (0, 0), rng.uniform(0.4, 4))


def _apply_tone_curve(rng: np.random.Generator, picture: np.ndarray) -> np.ndarray:
    """Change white balance, exposure, contrast and gamma by one lookup table for each channel."""
    steps = np.linspace(0, 1, 256)[:, None]
    curve = steps ** np.exp(rng.uniform(-0.5, 0.5))
    curve = 0.5 + (curve - 0.5) * np.exp(rng.uniform(-0.6, 0.35)) + rng.uniform(-0.1, 0.1)
    cast = rng.normal(0, 1) * np.array([1, 0, -1]) + 0.3 * rng.normal(
        0, 1, 3
    )  # lamps are warm or cold, seldom green
    gain = float(np.exp(rng.uniform(-0.35, 0.3)))
    if rng.random() < 0.75:  # cameras choose the exposure so that bright areas stay bright
        gain = float(
            np.clip(
                rng.uniform(0.75, 1.15) / (np.percentile(picture[::8, ::8], 95) / 255 + 0.02),
                0.7,
                2.5,
            )
        )
    balance = gain * np.exp(0.08 * cast)
    return cv2.LUT(picture, (np.clip(curve * balance, 0, 1) * 255).astype(np.uint8)[None])


def _apply_blur(
    rng: np.random.Generator, picture: np.ndarray, strength: float, most: float
) -> np.ndarray:
    """Blur by defocus or motion, from slightly to so much that thin bars merge."""
    kind, side = rng.random(), picture.shape[0]
    amount = (
        side
        / 320
        * (rng.uniform(0.3, 1.2) if rng.random() < 0.65 else rng.uniform(1.2, 3.2))
        * max(0.3, strength)
    )
    amount = min(amount, most)
    if kind < 0.45:
        return picture
    if kind < 0.65:
        return cv2.GaussianBlur(picture, (0, 0), amount)
    if kind < 0.8:
        reach = int(np.ceil(1.6 * amount))
        y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
        kernel = np.clip(1.6 * amount + 0.5 - np.hypot(x, y), 0, 1)
    else:
        reach = int(np.ceil(2.2 * amount))
        kernel = np.zeros((2 * reach + 1, 2 * reach + 1), np.float64)
        angle = rng.uniform(0, np.pi)
        end = np.array([np.cos(angle), np.sin(angle)]) * 2.2 * amount
        ends = [
            tuple(int(coordinate) for coordinate in np.round((reach + sign * end) * 16))
            for sign in (1, -1)
        ]
        mask = np.zeros(kernel.shape, np.uint8)
        cv2.line(mask, ends[0], ends[1], 255, 1, cv2.LINE_AA, 4)
        kernel = mask.astype(np.float64)
    if kernel.sum() == 0:
        return picture
    return cv2.filter2D(picture, -1, kernel / kernel.sum())


def _apply_noise(rng: np.random.Generator, picture: np.ndarray) -> np.ndarray:
    """Add sensor noise in brightness or colour, sometimes with coarse grain."""
    size_hw = picture.shape[0], picture.shape[1]
    amount = rng.uniform(2, 12) if rng.random() < 0.8 else rng.uniform(12, 40)
    noise = sensor_noise(rng, size_hw, coloured=bool(rng.random() < 0.6))
    if rng.random() < 0.3:
        noise, amount = cv2.GaussianBlur(noise, (0, 0), 0.8), amount * 1.8
    # The noise is uniform over 255 levels, so its standard deviation is 74.
    return cv2.addWeighted(picture, 1, noise, amount / 74, -128 * amount / 74)


def _sharpen(rng: np.random.Generator, picture: np.ndarray) -> np.ndarray:
    soft = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.6, 1.5))
    amount = rng.uniform(0.3, 1.5)
    return cv2.addWeighted(picture, 1 + amount, soft, -amount, 0)


def compress_as_jpeg(rng: np.random.Generator, picture: np.ndarray) -> np.ndarray:
    quality = int(rng.uniform(25, 95))
    blue_first = cv2.cvtColor(
        picture, cv2.COLOR_RGB2BGR
    )  # JPEG's brightness is a weighted sum of the channels, so their order matters
    _, data = cv2.imencode(".jpg", blue_first, [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))
    return cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)
