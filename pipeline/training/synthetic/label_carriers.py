"""What a label is on: packaging, pages, metal, boards, with words and shapes of their own."""

import cv2
import numpy as np

from pipeline.training.synthetic.distractor_grids import grid
from pipeline.training.synthetic.distractor_shapes import figure
from pipeline.training.synthetic.distractor_stripes import stripes
from pipeline.training.synthetic.distractor_text import (
    contrasting,
    ground,
    headline,
    lines,
    listing,
    paragraph,
)
from pipeline.training.synthetic.fonts_and_words import Stock, written
from pipeline.training.synthetic.materials import board, colour, material, metal
from pipeline.training.synthetic.print_layer import Print, moved, paste, stamp, turned


def distractor(rng: np.random.Generator, stock: Stock, side: int) -> Print:
    """A thing that is no code, of about this size."""
    makers = (headline, paragraph, listing, stripes, grid, figure)
    return makers[int(rng.choice(6, p=(0.34, 0.12, 0.1, 0.24, 0.12, 0.08)))](rng, stock, side)


def mount(
    rng: np.random.Generator, stock: Stock, thing: Print, around: float, largest: int = 720
) -> Print:
    """`thing` somewhere on a surface that is `around` times as large, at most `largest` pixels."""
    if rng.random() < 0.25:
        thing = turned(thing, int(rng.integers(1, 4)))
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
        pixels = _page(rng, stock, size_hw, (y, y + height))
    elif kind < 0.7:
        pixels = _packaging(rng, stock, size_hw)
    elif kind < 0.76:
        pixels = board(rng, size_hw)
    elif kind < 0.82:
        pixels = metal(rng, size_hw)
    else:
        pixels = material(rng, size_hw)
    if rng.random() < 0.25:
        _edge(rng, pixels, (x, y), (height, width))
    paste(pixels, thing.pixels, x, y)
    return Print(pixels, moved(thing.codes, x, y))


def _page(
    rng: np.random.Generator, stock: Stock, size_hw: tuple[int, int], taken: tuple[int, int]
) -> np.ndarray:
    """Text above and below the rows that are taken, of one or several sizes."""
    ink, paper = contrasting(rng, 0.15)
    pixels = ground(rng, size_hw, paper)
    margin = int(size_hw[1] * rng.uniform(0.01, 0.1))
    for top, bottom in ((margin, taken[0] - 2), (taken[1] + 2, size_hw[0] - 2)):
        if bottom - top > 10 and rng.random() < 0.8:
            size = int(np.clip((bottom - top) / rng.uniform(1, 9), 5, size_hw[1] / 6))
            lines(rng, pixels, stock, ink, size, (margin, top, size_hw[1] - margin, bottom))
    return pixels


def _packaging(rng: np.random.Generator, stock: Stock, size_hw: tuple[int, int]) -> np.ndarray:
    """Fields of colour, large letters, small ones, a picture."""
    pixels = ground(rng, size_hw, colour(rng))
    height, width = size_hw
    for _ in range(int(rng.integers(1, 5))):
        x, y = int(rng.uniform(-0.2, 0.9) * width), int(rng.uniform(-0.2, 0.9) * height)
        kind, side = rng.integers(0, 5), int(rng.uniform(0.2, 0.7) * max(size_hw))
        if kind == 0:
            cv2.rectangle(
                pixels, (x, y), (x + side, y + int(side * rng.uniform(0.2, 1))), colour(rng), -1
            )
        elif kind == 1:
            cv2.circle(pixels, (x, y), side // 2, colour(rng), -1, cv2.LINE_AA)
        elif kind == 2:
            letters = written(
                stock.text(rng, 2), max(8, side // 4), stock.font(rng), rng.uniform(0.6, 1.4)
            )
            stamp(
                pixels,
                np.ascontiguousarray(np.rot90(letters, int(rng.integers(0, 2)))),
                colour(rng),
                x,
                y,
            )
        elif kind == 3:
            lines(
                rng,
                pixels,
                stock,
                colour(rng),
                max(5, side // 12),
                (max(0, x), max(0, y), min(width, x + side), min(height, y + side)),
            )
        else:
            paste(pixels, distractor(rng, stock, max(24, side // 2)).pixels, x, y)
    return pixels


def _edge(
    rng: np.random.Generator, pixels: np.ndarray, at: tuple[int, int], size_hw: tuple[int, int]
) -> None:
    """The shadow of a sticker, or a frame around the field."""
    reach = max(1, int(min(size_hw) * rng.uniform(0.01, 0.04)))
    x, y = at
    corner = (x + size_hw[1] + reach, y + size_hw[0] + reach)
    if rng.random() < 0.5:
        cv2.rectangle(pixels, (x - reach, y - reach), corner, colour(rng), -1)
    else:
        region = pixels[max(0, y) : corner[1], max(0, x) : corner[0]]
        region[:] = region // 2 + region // 8
