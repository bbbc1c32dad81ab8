"""Draw print without codes, which detectors most often mistake for codes: headlines, tables."""

import cv2
import numpy as np

from pipeline.training.synthetic.fonts_and_words import (
    Typography,
    pick_cached_line,
    random_digits,
    render_letter,
    render_text,
)
from pipeline.training.synthetic.materials import (
    Colour,
    fill_plain,
    mix_colours,
    random_colour,
    render_material,
    smooth_noise,
)
from pipeline.training.synthetic.print_layer import PrintLayer, stamp_ink


def random_ink_and_paper(rng: np.random.Generator, inverted: float = 0.3) -> tuple[Colour, Colour]:
    """Draw contrasting colours (ink, paper). `inverted` is the probability of light ink."""
    dark, light = random_colour(rng, 0, 90), random_colour(rng, 165, 255, 0.6)
    return (light, dark) if rng.random() < inverted else (dark, light)


def render_paper(rng: np.random.Generator, size_hw: tuple[int, int], paper: Colour) -> np.ndarray:
    """Draw paper of a uniform or a slightly uneven colour."""
    if rng.random() < 0.5:
        return fill_plain(size_hw, paper)
    darker: Colour = tuple(int(value * rng.uniform(0.7, 1)) for value in paper)  # type: ignore[assignment]
    small = mix_colours(smooth_noise(rng, (32, 32), (3, 3)), darker, paper)
    return cv2.resize(small, (size_hw[1], size_hw[0]), interpolation=cv2.INTER_LINEAR)


def draw_text_lines(
    rng: np.random.Generator,
    canvas: np.ndarray,
    stock: Typography,
    ink: Colour,
    height: int,
    box: tuple[int, int, int, int],
) -> None:
    """Fill the box (x0, y0, x1, y1) of the canvas with lines of text, in place, left-aligned."""
    x0, y0, x1, y1 = box
    gap, ragged = max(2, int(height * rng.uniform(1.1, 1.9))), rng.random() < 0.5
    page = np.zeros((max(0, y1 - y0), max(1, x1 - x0)), np.uint8)
    for y in range(0, len(page) - height + 1, gap):
        x, end = 0, int(page.shape[1] * (rng.uniform(0.5, 1) if ragged else 1))
        while x < end:
            line = pick_cached_line(rng, stock, height)[: len(page) - y, : end - x]
            page[y : y + line.shape[0], x : x + line.shape[1]] = line
            x += line.shape[1] + height // 2
    stamp_ink(canvas, page, ink, x0, y0)


def render_headline(rng: np.random.Generator, stock: Typography, side: int) -> PrintLayer:
    """Draw one to three lines that fill their paper, often in capitals and cut off."""
    ink, paper = random_ink_and_paper(rng, 0.4)
    font, stretch = stock.random_font(rng), rng.uniform(0.4, 1.5)
    height = int(side * rng.uniform(0.12, 0.6))
    rows = []
    for _ in range(int(rng.integers(1, 4))):
        text = stock.random_text(rng, int(rng.integers(1, 4)))
        rows.append(
            render_text(text.upper() if rng.random() < 0.6 else text, height, font, stretch)[
                :, : 3 * side
            ]
        )
    gap = int(height * rng.uniform(0.05, 0.5))
    margin = int(height * rng.uniform(-0.15, 0.6))  # a negative margin cuts letters off
    size_hw = (
        max(8, sum(row.shape[0] + gap for row in rows) + 2 * margin),
        max(8, max(row.shape[1] for row in rows) + 2 * margin),
    )
    canvas = render_paper(rng, size_hw, paper)
    y, middle = margin, rng.random() < 0.5
    for row in rows:
        stamp_ink(canvas, row, ink, (size_hw[1] - row.shape[1]) // 2 if middle else margin, y)
        y += row.shape[0] + gap
    return PrintLayer(canvas)


def render_lettering(rng: np.random.Generator, stock: Typography, side: int) -> PrintLayer:
    """Draw letters without paper, which are painted directly on the background."""
    height = int(side * rng.uniform(0.1, 0.5))
    text = stock.random_text(rng, int(rng.integers(1, 4)))
    ink = render_text(
        text.upper() if rng.random() < 0.6 else text,
        height,
        stock.random_font(rng),
        rng.uniform(0.4, 1.5),
    )[:, : 3 * side]
    return PrintLayer(
        fill_plain((ink.shape[0], ink.shape[1]), random_colour(rng)),
        alpha=(ink * rng.uniform(0.6, 1)).astype(np.uint8),
    )


def render_paragraph(rng: np.random.Generator, stock: Typography, side: int) -> PrintLayer:
    """Draw columns of small text under a headline: a page, a newspaper, a leaflet."""
    ink, paper = random_ink_and_paper(rng, 0.12)
    width, height = side, int(side * rng.uniform(0.4, 1.5))
    canvas = render_paper(rng, (height, width), paper)
    margin = int(width * rng.uniform(0.02, 0.1))
    y = margin
    if rng.random() < 0.7:
        size = int(width * rng.uniform(0.05, 0.18))
        draw_text_lines(
            rng,
            canvas,
            stock,
            ink,
            size,
            (margin, y, width - margin, min(height, y + int(size * rng.uniform(1, 3)))),
        )
        y += int(size * 2.2)
    columns = int(rng.integers(1, 4))
    step = (width - margin) // columns
    small = max(4, int(width * rng.uniform(0.015, 0.06)))
    for column in range(columns):
        left = margin + column * step
        if rng.random() < 0.15 and height - y > 12:
            canvas[y : height - margin, left : left + step - margin] = render_material(
                rng, (max(1, height - margin - y), step - margin)
            )
        else:
            draw_text_lines(
                rng, canvas, stock, ink, small, (left, y, left + step - margin, height - margin)
            )
    return PrintLayer(canvas)


def render_listing(rng: np.random.Generator, stock: Typography, side: int) -> PrintLayer:
    """Draw rows of digits with or without rules: receipts, tables, number plates."""
    ink, paper = random_ink_and_paper(rng, 0.2)
    rows, columns = int(rng.integers(1, 14)), int(rng.integers(1, 6))
    height = max(5, side // (rows + columns))
    step_x, step_y = int(height * rng.uniform(2, 5)), int(height * rng.uniform(1.3, 2.2))
    canvas = render_paper(rng, (rows * step_y + height // 2, columns * step_x), paper)
    ruled, font = rng.random() < 0.5, stock.random_font(rng)
    for row in range(rows):
        for column in range(columns):
            number = rng.random() < 0.6
            text = (
                render_letter(random_digits(rng, 3), height, font)
                if number
                else pick_cached_line(rng, stock, height)
            )
            stamp_ink(
                canvas, text[:, : step_x - 2], ink, column * step_x + 3, row * step_y + height // 4
            )
    if ruled:
        canvas[::step_y] = ink
        canvas[:, ::step_x] = ink
    return PrintLayer(canvas)
