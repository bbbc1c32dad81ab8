"""Draw distractors with stripes, which resemble barcodes: blinds, fences, rulers, cloth."""

import cv2
import numpy as np

from pipeline.training.synthetic.distractor_text import random_ink_and_paper
from pipeline.training.synthetic.fonts_and_words import Typography, random_digits, render_text
from pipeline.training.synthetic.materials import (
    Colour,
    fill_plain,
    fine_noise,
    mix_colours,
    random_colour,
    render_material,
)
from pipeline.training.synthetic.print_layer import PrintLayer, stamp_ink


def render_stripes(rng: np.random.Generator, stock: Typography, side: int) -> PrintLayer:
    maker = (
        _render_blinds,
        _render_blinds,
        _render_fence,
        _render_crossing,
        _render_piano_keys,
        _render_book_spines,
        _render_stairs,
        _render_ruler,
        _render_cloth,
    )[int(rng.integers(0, 9))]
    pixels = maker(rng, stock, side)
    turns = int(rng.choice([0, 0, 1, 3]))
    return PrintLayer(np.ascontiguousarray(np.rot90(pixels, turns)))


def _random_size(rng: np.random.Generator, side: int) -> tuple[int, int]:
    ratio = np.exp(rng.uniform(-0.9, 0.9))
    return max(8, int(side * min(1, ratio))), max(8, int(side * min(1, 1 / ratio)))


def _tile_row(profile: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """Repeat a profile along the rows: (period,) -> (H, W) float32."""
    row = np.tile(profile, size_hw[1] // len(profile) + 1)[: size_hw[1]]
    return np.broadcast_to(row, size_hw).astype(np.float32)


def _render_blinds(rng: np.random.Generator, stock: Typography, side: int) -> np.ndarray:
    """Draw shaded slats of one width: window blinds, shutters, radiators, decking."""
    height, width = _random_size(rng, side)
    period = max(3, int(side / rng.uniform(5, 60)))
    x = np.linspace(0, 1, period, endpoint=False)
    form = rng.integers(0, 4)
    gap = rng.uniform(0.08, 0.6)
    profile = [
        (x > gap).astype(float),
        x,
        0.5 + 0.5 * np.sin(2 * np.pi * x),
        np.clip(np.abs(x - 0.5) * 4 - gap, 0, 1),
    ][form]
    shade = _tile_row(profile, (height, width)) * rng.uniform(0.5, 1) + rng.uniform(
        0, 0.2
    ) * fine_noise(rng, (height, width))
    pixels = mix_colours(shade, random_colour(rng, 0, 140), random_colour(rng, 110, 255, 0.6))
    for _ in range(int(rng.integers(0, 4))):  # draw cords or a frame
        y, thick = int(rng.integers(0, height)), max(1, int(side * rng.uniform(0.004, 0.03)))
        pixels[y : y + thick] = random_colour(rng)
    return pixels


def _render_fence(rng: np.random.Generator, stock: Typography, side: int) -> np.ndarray:
    """Draw evenly spaced bars with two rails before a material."""
    height, width = _random_size(rng, side)
    pixels = render_material(rng, (height, width))
    period = max(4, int(side / rng.uniform(6, 40)))
    thick = max(1, int(period * rng.uniform(0.15, 0.65)))
    fill = random_colour(rng)
    for x in range(int(rng.integers(0, period)), width, period):
        pixels[:, x : x + thick] = fill
        if thick > 3:
            pixels[:, x : x + thick // 3] = tuple(value * 2 // 3 for value in fill)
    for y in rng.uniform(0, 1, 2) * height:
        pixels[int(y) : int(y) + thick] = fill
    return pixels


def _render_crossing(rng: np.random.Generator, stock: Typography, side: int) -> np.ndarray:
    """Draw a few broad stripes of two colours: crossings, barriers, awnings."""
    height, width = _random_size(rng, side)
    ink, paper = random_ink_and_paper(rng)
    period = max(4, int(side / rng.uniform(2, 9)))
    slope = rng.choice([0.0, 0.0, rng.uniform(-1, 1)])
    y, x = np.ogrid[:height, :width]
    on = (x + slope * y) % period < period * rng.uniform(0.3, 0.7)
    return mix_colours(
        on.astype(np.float32) * 0.9 + 0.3 * fine_noise(rng, (height, width)), paper, ink
    )


def _render_piano_keys(rng: np.random.Generator, stock: Typography, side: int) -> np.ndarray:
    """Draw the keys of a piano."""
    width, height = side, int(side * rng.uniform(0.15, 0.5))
    key = max(4, int(side / rng.uniform(8, 40)))
    pixels = fill_plain((height, width), (238, 236, 228))
    pixels[:, ::key] = 60
    for number, x in enumerate(range(0, width, key)):
        if number % 7 not in (2, 6):
            pixels[: int(height * 0.62), x + int(0.7 * key) : x + int(1.3 * key)] = (20, 20, 22)
    return pixels


def _render_book_spines(rng: np.random.Generator, stock: Typography, side: int) -> np.ndarray:
    """Draw unequal stripes, some with text: books on a shelf, records, folders."""
    height, width = _random_size(rng, side)
    pixels = fill_plain((height, width), random_colour(rng, 0, 90))
    mean = side / rng.uniform(5, 35)
    grey = rng.random() < 0.3
    x = 0
    while x < width:
        thick = max(2, int(mean * rng.uniform(0.4, 1.8)))
        top = int(height * rng.uniform(0, 0.15))
        pixels[top:, x : x + thick] = random_colour(rng, 0, 255, 0.1 if grey else 1)
        if thick > 9 and rng.random() < 0.6:
            ink = np.rot90(
                render_text(stock.random_text(rng, 2), int(thick * 0.7), stock.random_font(rng)), 3
            )
            stamp_ink(pixels, ink, random_colour(rng), x + thick // 6, top + int(height * 0.1))
        x += thick + int(rng.integers(0, 3))
    return pixels


def _render_stairs(rng: np.random.Generator, stock: Typography, side: int) -> np.ndarray:
    """Draw stripes of growing width: stairs, or rails and boards in perspective."""
    height, width = _random_size(rng, side)
    growth = rng.uniform(1.04, 1.3)
    pixels, x, thick = (
        fill_plain((height, width), random_colour(rng)),
        0.0,
        side / rng.uniform(15, 80),
    )
    shades = [random_colour(rng) for _ in range(int(rng.integers(2, 4)))]
    number = 0
    while x < width:
        pixels[:, int(x) : int(x + max(1, thick)) + 1] = shades[number % len(shades)]
        x, thick, number = x + max(1, thick), thick * growth, number + 1
    return pixels


def _render_ruler(rng: np.random.Generator, stock: Typography, side: int) -> np.ndarray:
    """Draw strokes of several lengths on one line, with numbers: rulers, scales, tally marks."""
    ink, paper = random_ink_and_paper(rng, 0.2)
    width, height = side, int(side * rng.uniform(0.1, 0.35))
    pixels = fill_plain((height, width), paper)
    step, thick = max(3, int(side / rng.uniform(15, 80))), max(1, side // 250)
    tally = rng.random() < 0.3
    for number, x in enumerate(range(step, width - step, step)):
        length = height * (
            0.7 if tally else 0.6 if number % 10 == 0 else 0.45 if number % 5 == 0 else 0.3
        )
        if tally and number % 5 == 4:
            cv2.line(pixels, (x - 5 * step, int(length)), (x, 0), ink, thick + 1, cv2.LINE_AA)
        else:
            pixels[: int(length), x : x + thick] = ink
        if not tally and number % 10 == 0 and height > 20:
            stamp_ink(
                pixels,
                render_text(random_digits(rng, 2), height // 4, stock.random_font(rng)),
                ink,
                x,
                int(height * 0.65),
            )
    return pixels


def _render_cloth(rng: np.random.Generator, stock: Typography, side: int) -> np.ndarray:
    """Draw repeated stripes of several widths and colours, also crossed: shirts, flags, tartan."""
    height, width = _random_size(rng, side)
    shades: list[Colour] = [random_colour(rng) for _ in range(int(rng.integers(2, 5)))]
    widths = np.maximum(1, (side * rng.uniform(0.01, 0.08, 2 * len(shades))).astype(int))
    profile = np.concatenate(
        [np.full((value, 3), shades[i % len(shades)], np.uint8) for i, value in enumerate(widths)]
    )
    row = np.tile(profile, (width // len(profile) + 1, 1))[:width]
    pixels = np.repeat(row[None], height, 0)
    if rng.random() < 0.3:
        column = np.tile(profile, (height // len(profile) + 1, 1))[:height]
        pixels = cv2.addWeighted(pixels, 0.5, np.repeat(column[:, None], width, 1), 0.5, 0)
    return pixels
