"""Draw what a label is attached to: packaging, pages, metal, circuit boards."""

import cv2
import numpy as np

from pipeline.training.synthetic.distractor_grids import render_grid
from pipeline.training.synthetic.distractor_shapes import render_shape
from pipeline.training.synthetic.distractor_stripes import render_stripes
from pipeline.training.synthetic.distractor_text import (
    draw_text_lines,
    random_ink_and_paper,
    render_headline,
    render_listing,
    render_paper,
    render_paragraph,
)
from pipeline.training.synthetic.fonts_and_words import Typography, render_text
from pipeline.training.synthetic.materials import (
    random_colour,
    render_circuit_board,
    render_material,
    render_metal,
)
from pipeline.training.synthetic.print_layer import (
    PrintLayer,
    paste_picture,
    rotate_quarters,
    shift_codes,
    stamp_ink,
)


def render_distractor(rng: np.random.Generator, stock: Typography, side: int) -> PrintLayer:
    """Draw something that is not a code. Its longer side is about `side` pixels."""
    makers = (
        render_headline,
        render_paragraph,
        render_listing,
        render_stripes,
        render_grid,
        render_shape,
    )
    return makers[int(rng.choice(6, p=(0.34, 0.12, 0.1, 0.24, 0.12, 0.08)))](rng, stock, side)


def mount_on_carrier(
    rng: np.random.Generator,
    stock: Typography,
    thing: PrintLayer,
    around: float,
    largest: int = 720,
) -> PrintLayer:
    """Place a print randomly on a surface `around` times its size, at most `largest` pixels."""
    if rng.random() < 0.25:
        thing = rotate_quarters(thing, int(rng.integers(1, 4)))
    height, width = thing.size_hw
    room = [
        min(largest, max(size, int(size * around * rng.uniform(0.8, 1.25))))
        for size in (height, width)
    ]
    size_hw = (max(room[0], height), max(room[1], width))
    y, x = (
        int(rng.uniform(0.15, 0.85) * (large - small))
        for large, small in zip(size_hw, (height, width), strict=True)
    )
    kind = rng.random()
    if kind < 0.45:
        pixels = _render_page(rng, stock, size_hw, (y, y + height))
    elif kind < 0.7:
        pixels = _render_packaging(rng, stock, size_hw)
    elif kind < 0.76:
        pixels = render_circuit_board(rng, size_hw)
    elif kind < 0.82:
        pixels = render_metal(rng, size_hw)
    else:
        pixels = render_material(rng, size_hw)
    if rng.random() < 0.25:
        _draw_edge(rng, pixels, (x, y), (height, width))
    paste_picture(pixels, thing.pixels, x, y)
    return PrintLayer(pixels, shift_codes(thing.codes, x, y))


def _render_page(
    rng: np.random.Generator, stock: Typography, size_hw: tuple[int, int], taken: tuple[int, int]
) -> np.ndarray:
    """Draw a page with text above and below the rows `taken` (first, last)."""
    ink, paper = random_ink_and_paper(rng, 0.15)
    pixels = render_paper(rng, size_hw, paper)
    margin = int(size_hw[1] * rng.uniform(0.01, 0.1))
    for top, bottom in ((margin, taken[0] - 2), (taken[1] + 2, size_hw[0] - 2)):
        if bottom - top > 10 and rng.random() < 0.8:
            size = int(np.clip((bottom - top) / rng.uniform(1, 9), 5, size_hw[1] / 6))
            draw_text_lines(
                rng, pixels, stock, ink, size, (margin, top, size_hw[1] - margin, bottom)
            )
    return pixels


def _render_packaging(
    rng: np.random.Generator, stock: Typography, size_hw: tuple[int, int]
) -> np.ndarray:
    """Draw packaging: coloured fields, large and small letters, a picture."""
    pixels = render_paper(rng, size_hw, random_colour(rng))
    height, width = size_hw
    for _ in range(int(rng.integers(1, 5))):
        x, y = int(rng.uniform(-0.2, 0.9) * width), int(rng.uniform(-0.2, 0.9) * height)
        kind, side = rng.integers(0, 5), int(rng.uniform(0.2, 0.7) * max(size_hw))
        if kind == 0:
            cv2.rectangle(
                pixels,
                (x, y),
                (x + side, y + int(side * rng.uniform(0.2, 1))),
                random_colour(rng),
                -1,
            )
        elif kind == 1:
            cv2.circle(pixels, (x, y), side // 2, random_colour(rng), -1, cv2.LINE_AA)
        elif kind == 2:
            letters = render_text(
                stock.random_text(rng, 2),
                max(8, side // 4),
                stock.random_font(rng),
                rng.uniform(0.6, 1.4),
            )
            stamp_ink(
                pixels,
                np.ascontiguousarray(np.rot90(letters, int(rng.integers(0, 2)))),
                random_colour(rng),
                x,
                y,
            )
        elif kind == 3:
            draw_text_lines(
                rng,
                pixels,
                stock,
                random_colour(rng),
                max(5, side // 12),
                (max(0, x), max(0, y), min(width, x + side), min(height, y + side)),
            )
        else:
            paste_picture(pixels, render_distractor(rng, stock, max(24, side // 2)).pixels, x, y)
    return pixels


def _draw_edge(
    rng: np.random.Generator, pixels: np.ndarray, at: tuple[int, int], size_hw: tuple[int, int]
) -> None:
    """Draw a frame around the label, or the label's shadow, in place."""
    reach = max(1, int(min(size_hw) * rng.uniform(0.01, 0.04)))
    x, y = at
    corner = (x + size_hw[1] + reach, y + size_hw[0] + reach)
    if rng.random() < 0.5:
        cv2.rectangle(pixels, (x - reach, y - reach), corner, random_colour(rng), -1)
    else:
        region = pixels[max(0, y) : corner[1], max(0, x) : corner[0]]
        region[:] = region // 2 + region // 8
