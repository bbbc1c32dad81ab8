"""Draw distractors of other shapes: rings, frames, dice, grains, signs."""

import cv2
import numpy as np

from pipeline.training.synthetic.distractor_grids import random_size
from pipeline.training.synthetic.distractor_text import random_ink_and_paper
from pipeline.training.synthetic.fonts_and_words import Typography, render_text
from pipeline.training.synthetic.materials import (
    fill_plain,
    fine_noise,
    mix_colours,
    random_colour,
    render_material,
)
from pipeline.training.synthetic.print_layer import PrintLayer, stamp_ink


def render_shape(rng: np.random.Generator, stock: Typography, side: int) -> PrintLayer:
    makers = (
        _render_rings,
        _render_frames,
        _render_frames,
        _render_dominoes,
        _render_noise,
        _render_sign,
        _render_sign,
    )
    return PrintLayer(makers[int(rng.integers(0, len(makers)))](rng, stock, side))


def _render_rings(rng: np.random.Generator, stock: Typography, side: int) -> np.ndarray:
    """Draw circles inside circles: targets, wheels, lenses."""
    ink, paper = random_ink_and_paper(rng)
    pixels = fill_plain((side, side), paper)
    middle, radius = side // 2, side * 0.48
    for number in range(int(rng.integers(2, 10))):
        cv2.circle(
            pixels,
            (middle, middle),
            int(radius),
            ink if number % 2 == 0 else paper,
            -1,
            cv2.LINE_AA,
        )
        radius *= rng.uniform(0.6, 0.92)
    return pixels


def _render_frames(rng: np.random.Generator, stock: Typography, side: int) -> np.ndarray:
    """Draw rectangles inside rectangles: picture frames, screens, doors, sockets."""
    height, width = random_size(rng, side)
    pixels = fill_plain((height, width), random_colour(rng))
    x0, y0, x1, y1 = 0.0, 0.0, float(width), float(height)
    for _ in range(int(rng.integers(1, 5))):
        step = rng.uniform(0.03, 0.2) * min(x1 - x0, y1 - y0)
        x0, y0, x1, y1 = x0 + step, y0 + step, x1 - step, y1 - step
        cv2.rectangle(pixels, (int(x0), int(y0)), (int(x1), int(y1)), random_colour(rng), -1)
    if rng.random() < 0.5 and x1 - x0 > 8 and y1 - y0 > 8:
        inner = render_material(rng, (int(y1) - int(y0), int(x1) - int(x0)))
        pixels[int(y0) : int(y1), int(x0) : int(x1)] = inner
    return pixels


def _render_dominoes(rng: np.random.Generator, stock: Typography, side: int) -> np.ndarray:
    """Draw round dots on squares: dice, dominoes, buttons, lamps."""
    ink, paper = random_ink_and_paper(rng, 0.5)
    columns, rows = int(rng.integers(1, 6)), int(rng.integers(1, 4))
    step = max(12, side // columns)
    pixels = fill_plain((rows * step, columns * step), random_colour(rng))
    places = [
        (0.5, 0.5),
        (0.25, 0.25),
        (0.75, 0.75),
        (0.25, 0.75),
        (0.75, 0.25),
        (0.25, 0.5),
        (0.75, 0.5),
    ]
    for row in range(rows):
        for column in range(columns):
            x, y = column * step, row * step
            cv2.rectangle(
                pixels,
                (x + step // 12, y + step // 12),
                (x + step - step // 12, y + step - step // 12),
                paper,
                -1,
            )
            for u, v in places[: int(rng.integers(1, 8))]:
                cv2.circle(
                    pixels,
                    (x + int(u * step), y + int(v * step)),
                    max(1, step // 11),
                    ink,
                    -1,
                    cv2.LINE_AA,
                )
    return pixels


def _render_noise(rng: np.random.Generator, stock: Typography, side: int) -> np.ndarray:
    """Draw grains of one size without straight edges: gravel, foliage, static."""
    height, width = random_size(rng, side)
    sigma = rng.uniform(0.6, 5)
    shade = cv2.GaussianBlur(fine_noise(rng, (height, width)), (0, 0), sigma)
    return mix_colours(
        0.5 + shade * sigma * rng.uniform(1, 3.5),
        random_colour(rng, 0, 120),
        random_colour(rng, 100, 255),
    )


def _render_sign(rng: np.random.Generator, stock: Typography, side: int) -> np.ndarray:
    """Draw a bordered shape with a word or an arrow in it: road signs, logos, badges."""
    ink, paper = random_ink_and_paper(rng, 0.5)
    pixels = render_material(rng, (side, side), room=False)
    middle, radius = side // 2, int(side * rng.uniform(0.3, 0.5))
    corners = int(rng.choice([3, 4, 6, 8, 40]))
    angles = (
        np.linspace(0, 2 * np.pi, corners, endpoint=False)
        + np.pi / corners
        + rng.choice([0, np.pi / 2])
    )
    points = middle + np.stack([np.cos(angles), np.sin(angles)], 1)
    for scale, fill in ((1.0, ink), (rng.uniform(0.7, 0.95), paper)):
        points = middle + radius * scale * np.stack([np.cos(angles), np.sin(angles)], 1)
        cv2.fillPoly(pixels, [points.astype(np.int32)], fill, cv2.LINE_AA)
    if rng.random() < 0.6:
        text = render_text(
            stock.random_word(rng)[:4].upper(),
            int(radius * rng.uniform(0.4, 0.9)),
            stock.random_font(rng),
        )
        stamp_ink(pixels, text, ink, middle - text.shape[1] // 2, middle - text.shape[0] // 2)
    else:
        thick = max(2, radius // 4)
        cv2.arrowedLine(
            pixels,
            (middle, middle + radius // 2),
            (middle, middle - radius // 2),
            ink,
            thick,
            cv2.LINE_AA,
            0,
            0.4,
        )
    return pixels
