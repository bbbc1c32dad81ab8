"""Draw distractors with cells or dots in rows, which resemble matrix codes and markers."""

import numpy as np

from pipeline.training.synthetic.distractor_text import random_ink_and_paper
from pipeline.training.synthetic.fonts_and_words import Typography, render_letter
from pipeline.training.synthetic.materials import (
    fill_plain,
    mix_colours,
    random_colour,
    render_material,
)
from pipeline.training.synthetic.print_layer import PrintLayer, stamp_ink


def render_grid(rng: np.random.Generator, stock: Typography, side: int) -> PrintLayer:
    makers = (
        _render_checkerboard,
        _render_tiles,
        _render_facade,
        _render_facade,
        _render_keyboard,
        _render_crossword,
        _render_mesh,
        _render_halftone,
    )
    return PrintLayer(makers[int(rng.integers(0, len(makers)))](rng, stock, side))


def random_size(rng: np.random.Generator, side: int) -> tuple[int, int]:
    """Draw the (height, width) of a rectangle whose longer side is `side`."""
    ratio = np.exp(rng.uniform(-0.7, 0.7))
    return max(8, int(side * min(1, ratio))), max(8, int(side * min(1, 1 / ratio)))


def _render_checkerboard(rng: np.random.Generator, stock: Typography, side: int) -> np.ndarray:
    """Draw a regular checkerboard; an irregular one could be a code."""
    ink, paper = random_ink_and_paper(rng)
    height, width = random_size(rng, side)
    cell = max(2, int(side / rng.uniform(3, 24)))
    y, x = np.ogrid[:height, :width]
    on = (x // cell + y // cell) % 2
    return mix_colours(on.astype(np.float32), paper, ink)


def _render_tiles(rng: np.random.Generator, stock: Typography, side: int) -> np.ndarray:
    """Draw bricks, tiles or paving of varying colours with joints between them."""
    height, width = random_size(rng, side)
    cell_w = max(4, int(side / rng.uniform(3, 20)))
    cell_h = max(3, int(cell_w * rng.choice([1.0, 0.5, 0.35])))
    joint = max(1, int(cell_h * rng.uniform(0.04, 0.2)))
    base, varied = np.array(random_colour(rng, 60, 240), float), rng.uniform(0, 60)
    pixels = fill_plain((height, width), random_colour(rng, 30, 220, 0.3))
    shift = cell_w // 2 if rng.random() < 0.6 else 0
    for row, y in enumerate(range(0, height, cell_h)):
        for x in range(-(row % 2) * shift, width, cell_w):
            fill = np.clip(base + rng.normal(0, 1) * varied, 0, 255).astype(np.uint8)
            pixels[y : y + cell_h - joint, max(0, x) : max(0, x + cell_w - joint)] = fill
    return pixels


def _render_facade(rng: np.random.Generator, stock: Typography, side: int) -> np.ndarray:
    """Draw dark or bright fields in rows: windows, shelves, drawers, solar panels."""
    height, width = random_size(rng, side)
    wall = random_colour(rng, 60, 255, 0.6)
    pixels = fill_plain((height, width), wall)
    step_x, step_y = (max(6, int(side / rng.uniform(3, 16))) for _ in range(2))
    part_x, part_y = rng.uniform(0.3, 0.85, 2)
    glass = random_colour(rng, 0, 160)
    lit = rng.uniform(0, 0.3)  # more bright windows would look like the cells of a code
    for y in range(step_y // 4, height, step_y):
        for x in range(step_x // 4, width, step_x):
            fill = random_colour(rng, 150, 255, 0.5) if rng.random() < lit else glass
            right, bottom = x + int(step_x * part_x), y + int(step_y * part_y)
            pixels[y:bottom, x:right] = fill
            if step_x > 14:
                pixels[y:bottom, (x + right) // 2 : (x + right) // 2 + max(1, step_x // 20)] = wall
    return pixels


def _render_keyboard(rng: np.random.Generator, stock: Typography, side: int) -> np.ndarray:
    """Draw keys with a letter on each: a keyboard, a keypad, a calculator."""
    ink, key = random_ink_and_paper(rng, 0.6)
    columns, rows = int(rng.integers(3, 15)), int(rng.integers(3, 7))
    step = max(5, side // columns)
    pixels = fill_plain((rows * step, columns * step), random_colour(rng, 0, 220, 0.3))
    font = stock.random_font(rng)
    for row in range(rows):
        for column in range(columns):
            x, y = column * step + (row % 2) * step // 3, row * step
            pixels[
                y + step // 10 : y + step - step // 10, x + step // 10 : x + step - step // 10
            ] = key
            if step > 8:
                stamp_ink(
                    pixels,
                    render_letter(stock.random_word(rng)[0].upper(), step // 2, font),
                    ink,
                    x + step // 4,
                    y + step // 4,
                )
    return pixels


def _render_crossword(rng: np.random.Generator, stock: Typography, side: int) -> np.ndarray:
    """Draw a crossword, a sudoku or a calendar: ruled white cells, few black ones, letters."""
    count = int(rng.integers(5, 16))
    step = max(5, side // count)
    pixels = fill_plain((count * step + 1, count * step + 1), (250, 250, 245))
    font, filled, black = stock.random_font(rng), rng.uniform(0, 0.9), rng.choice([0, 0.12, 0.18])
    for row in range(count):
        for column in range(count):
            x, y = column * step, row * step
            if rng.random() < black:
                pixels[y : y + step, x : x + step] = 15
            elif rng.random() < filled and step > 7:
                stamp_ink(
                    pixels,
                    render_letter(stock.random_word(rng)[0].upper(), int(step * 0.6), font),
                    (20, 20, 40),
                    x + step // 4,
                    y + step // 5,
                )
    pixels[::step] = 30
    pixels[:, ::step] = 30
    return pixels


def _render_mesh(rng: np.random.Generator, stock: Typography, side: int) -> np.ndarray:
    """Draw lines in both directions: squared paper, window grilles, nets."""
    height, width = random_size(rng, side)
    pixels = render_material(rng, (height, width))
    ink, step = random_colour(rng), max(4, int(side / rng.uniform(4, 40)))
    thick = max(1, int(step * rng.uniform(0.03, 0.35)))
    for offset in range(thick):
        pixels[offset::step] = ink
        pixels[:, offset :: max(4, int(step * rng.uniform(0.98, 1.02)))] = ink
    return pixels


def _render_halftone(rng: np.random.Generator, stock: Typography, side: int) -> np.ndarray:
    """Draw dots in regular rows: halftone, perforated sheets, loudspeakers, polka dots."""
    ink, paper = random_ink_and_paper(rng)
    height, width = random_size(rng, side)
    cell = max(3, int(side / rng.uniform(6, 50)))
    offset = np.arange(cell) + 0.5 - cell / 2
    dot = np.clip(
        (rng.uniform(0.15, 0.48) - np.hypot(*np.meshgrid(offset, offset)) / cell) * cell + 0.5, 0, 1
    )
    tiled = np.tile(dot, (height // cell + 1, width // cell + 1))[:height, :width]
    return mix_colours(tiled.astype(np.float32), paper, ink)
