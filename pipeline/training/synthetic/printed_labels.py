"""Draw a printed code with quiet zone, caption and words on paper or metal, or a sheet of codes."""

from collections.abc import Callable, Sequence

import cv2
import numpy as np

from pipeline.training.synthetic.code_symbols import (
    BARCODE,
    DATA_MATRIX,
    MARKER,
    QR,
    CodeSymbol,
    draw_symbol,
)
from pipeline.training.synthetic.distractor_text import draw_text_lines, render_paper
from pipeline.training.synthetic.fonts_and_words import Typography, render_text
from pipeline.training.synthetic.ink import render_ink
from pipeline.training.synthetic.materials import (
    Colour,
    random_colour,
    render_material,
    render_metal,
)
from pipeline.training.synthetic.print_layer import (
    Code,
    PrintLayer,
    paste_picture,
    rectangle_outline,
    shift_codes,
    stamp_ink,
)

# Probabilities of black on white, coloured, inverted, and low contrast, by kind of code.
_STYLE_SHARES = {
    BARCODE: (0.7, 0.17, 0.05, 0.08),
    QR: (0.62, 0.22, 0.1, 0.06),
    DATA_MATRIX: (0.45, 0.12, 0.23, 0.2),
    MARKER: (0.85, 0.05, 0.04, 0.06),
}


Material = Callable[[np.random.Generator, tuple[int, int]], np.ndarray]


def render_label(
    rng: np.random.Generator, stock: Typography, kind: int, side: int, bare: bool = False
) -> PrintLayer:
    """Draw one code of about `side` pixels on paper or metal.

    Args:
        rng: The random generator.
        stock: Fonts and words.
        kind: Class id of the code.
        side: Longer side of the code in pixels.
        bare: Draw only the code and its quiet zone.
    """
    code = draw_symbol(rng, stock, kind)
    ink = render_ink(rng, code, side, plain=bare and rng.random() < 0.5)
    fill, paper, texture = _random_colours(rng, kind, side)
    cell = ink.shape[1] / code.cells.shape[1]
    margins = _random_margins(rng, code, cell, ink.shape)
    digits = (
        _render_caption(rng, stock, code, ink.shape) if rng.random() < _text_chance(kind) else None
    )
    beneath = 0 if digits is None else digits.shape[0] + max(1, int(0.15 * digits.shape[0]))
    top, right, bottom, left = margins if bare else _widen_margins(rng, margins, ink.shape)
    size_hw: tuple[int, int] = (top + ink.shape[0] + beneath + bottom, left + ink.shape[1] + right)
    pixels = texture(rng, size_hw) if texture else render_paper(rng, size_hw, paper)
    stamp_ink(pixels, ink, fill, left, top, rng.uniform(0.85, 1) if texture else 1.0)
    if digits is not None:
        gap = beneath - digits.shape[0] if rng.random() < 0.8 else -digits.shape[0] // 2
        stamp_ink(
            pixels,
            digits,
            fill,
            left + (ink.shape[1] - digits.shape[1]) // 2,
            top + ink.shape[0] + gap,
        )
    if not bare:
        _draw_words(
            rng,
            stock,
            pixels,
            fill,
            (left - margins[3], top - margins[0]),
            (top + ink.shape[0] + beneath + margins[2]),
        )
        _draw_border(rng, pixels, fill)
    return PrintLayer(
        pixels, ((kind, rectangle_outline(left, top, left + ink.shape[1], top + ink.shape[0])),)
    )


def _text_chance(kind: int) -> float:
    return {BARCODE: 0.75, QR: 0.12, DATA_MATRIX: 0.15, MARKER: 0.12}[kind]


def _random_colours(
    rng: np.random.Generator, kind: int, side: int
) -> tuple[Colour, Colour, Material | None]:
    """Draw (ink, paper, material), where a function draws the material; None: plain paper."""
    # A small code needs contrast to be visible.
    manner = int(rng.choice(4, p=_STYLE_SHARES[kind] if side >= 48 else (0.88, 0.12, 0, 0)))
    white = random_colour(rng, 215, 255, 0.12)
    if manner == 0:
        return random_colour(rng, 0, 60, 0.3), white, None
    if manner == 1:
        paper = random_colour(rng, 170, 255, 0.9)
        return random_colour(rng, 0, 110), paper, None
    if manner == 2:
        return (
            white,
            random_colour(rng, 0, 110),
            (render_metal if kind == DATA_MATRIX and rng.random() < 0.3 else None),
        )
    if kind == DATA_MATRIX or rng.random() < 0.2:  # etched or peened
        fill = (
            random_colour(rng, 0, 60, 0.2)
            if rng.random() < 0.6
            else random_colour(rng, 220, 255, 0.1)
        )
        return fill, white, render_metal if rng.random() < 0.7 else _render_low_contrast_material
    base = rng.uniform(60, 200)
    step = rng.uniform(45, 80)
    tint = rng.uniform(0.8, 1, 3)
    return _to_colour(tint * (base - step / 2)), _to_colour(tint * (base + step / 2)), None


def _to_colour(values: np.ndarray) -> Colour:
    red, green, blue = (int(np.clip(item, 0, 255)) for item in values)
    return red, green, blue


def _render_low_contrast_material(rng: np.random.Generator, size_hw: tuple[int, int]) -> np.ndarray:
    return cv2.addWeighted(
        render_material(rng, size_hw, room=False),
        0.5,
        np.full((*size_hw, 3), rng.uniform(80, 180), np.uint8),
        0.5,
        0,
    )


def _random_margins(
    rng: np.random.Generator, code: CodeSymbol, cell: float, shape: tuple[int, ...]
) -> tuple[int, int, int, int]:
    """Draw the quiet zone (top, right, bottom, left) in pixels, which is sometimes too small."""
    zone = code.quiet * cell * rng.uniform(0.6, 1.4, 4)
    if code.label == BARCODE:
        zone[[0, 2]] = rng.uniform(0.02, 0.3, 2) * shape[0]
    elif code.label != QR:
        zone *= rng.choice([1.0, 2.0, 3.0])
    if rng.random() < 0.08:
        zone[int(rng.integers(0, 4))] = 0
    top, right, bottom, left = (max(1, int(item)) for item in zone)
    return top, right, bottom, left


def _render_caption(
    rng: np.random.Generator, stock: Typography, code: CodeSymbol, shape: tuple[int, ...]
) -> np.ndarray | None:
    height = int(np.clip(shape[1] * rng.uniform(0.06, 0.13), 5, max(6, shape[0] * 0.5)))
    if not code.text or shape[1] < 24:
        return None
    text = code.text if rng.random() < 0.5 or code.label != BARCODE else " ".join(code.text)
    drawn = render_text(text, height, stock.random_font(rng))
    widest = int(shape[1] * rng.uniform(0.6, 1.05))
    if drawn.shape[1] > widest:
        drawn = cv2.resize(drawn, (widest, drawn.shape[0]), interpolation=cv2.INTER_AREA)
    return drawn


def _widen_margins(
    rng: np.random.Generator, margins: tuple[int, ...], shape: tuple[int, ...]
) -> tuple[int, int, int, int]:
    """Widen the margins on some sides, to make room for words."""
    extra = [
        int(rng.uniform(0.1, 0.8) * min(shape) * (rng.random() < chance))
        for chance in (0.3, 0.12, 0.35, 0.12)
    ]
    top, right, bottom, left = (margin + more for margin, more in zip(margins, extra, strict=True))
    return top, right, bottom, left


def _draw_words(
    rng: np.random.Generator,
    stock: Typography,
    pixels: np.ndarray,
    fill: Colour,
    free: tuple[int, int],
    below: int,
) -> None:
    """Draw words in place, outside the quiet zone.

    `free` has the width of the space left of the zone and the height of the space above it. `below`
    is the row where the zone ends.
    """
    height, width = pixels.shape[:2]
    for y0, y1 in ((2, free[1]), (below, height - 2)):
        size = int((y1 - y0) / rng.integers(1, 4))
        if size >= 6:
            draw_text_lines(rng, pixels, stock, fill, size * 3 // 4, (3, y0, width - 3, y1))
    if free[0] > 12:
        draw_text_lines(
            rng,
            pixels,
            stock,
            fill,
            max(5, free[0] // int(rng.integers(2, 6))),
            (2, 2, free[0] - 2, height - 2),
        )


def _draw_border(rng: np.random.Generator, pixels: np.ndarray, fill: Colour) -> None:
    if rng.random() < 0.2:
        thick = max(1, int(min(pixels.shape[:2]) * rng.uniform(0.005, 0.03)))
        cv2.rectangle(pixels, (0, 0), (pixels.shape[1] - 1, pixels.shape[0] - 1), fill, thick)


def render_sheet(
    rng: np.random.Generator, stock: Typography, prints: Sequence[PrintLayer], columns: int
) -> PrintLayer:
    """Place prints in rows on one sheet, as on a delivery note or a calibration board."""
    step_x = max(item.size_hw[1] for item in prints)
    step_y = max(item.size_hw[0] for item in prints)
    gap = int(rng.uniform(0.0, 0.35) * min(step_x, step_y)) + 2
    rows = -(-len(prints) // columns)
    size_hw = (rows * (step_y + gap) + gap, columns * (step_x + gap) + gap)
    paper = random_colour(rng, 200, 255, 0.2) if rng.random() < 0.8 else random_colour(rng)
    pixels = render_paper(rng, size_hw, paper)
    codes: list[Code] = []
    for number, item in enumerate(prints):
        x, y = gap + number % columns * (step_x + gap), gap + number // columns * (step_y + gap)
        paste_picture(pixels, item.pixels, x, y)
        codes += shift_codes(item.codes, x, y)
    return PrintLayer(pixels, tuple(codes))
