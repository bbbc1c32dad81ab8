"""Draw the cells of a code as ink: squares, dots, rounded or smeared cells, bars."""

import cv2
import numpy as np

from pipeline.training.synthetic.code_symbols import BARCODE, DATA_MATRIX, MARKER, QR, CodeSymbol


def render_ink(
    rng: np.random.Generator, symbol: CodeSymbol, side: int, plain: bool = False
) -> np.ndarray:
    """Draw a code without its quiet zone: (h, w) uint8, 255 where there is ink.

    Args:
        rng: The random generator.
        symbol: The code.
        side: Least length of the longer side in pixels, if the cells allow it.
        plain: Draw the code as in its standard, without variations.
    """
    if symbol.label == BARCODE:
        return _render_bars(rng, symbol, side, plain)
    cell = max(1, -(-side // max(symbol.cells.shape)))
    cell = min(cell, max(2, 720 // max(symbol.cells.shape)))
    style = 1.0 if plain else rng.random()
    if symbol.label == QR and style < 0.16 and cell >= 3:
        return _add_logo(
            rng,
            _render_styled_cells(rng, symbol, cell)
            if style < 0.1
            else _render_squares(symbol.cells, cell),
        )
    if symbol.label == DATA_MATRIX and style < 0.3 and cell >= 3:
        return _render_dots(rng, symbol.cells, cell, rng.uniform(0.28, 0.56))
    ink = _render_squares(symbol.cells, cell)
    if symbol.label == QR and style > 0.93 and not plain:
        return _add_logo(rng, ink)
    if not plain and symbol.label != MARKER and rng.random() < 0.3:
        ink = _vary_ink_amount(rng, ink, cell)
    return ink


def _render_squares(cells: np.ndarray, cell: int) -> np.ndarray:
    height, width = cells.shape
    return cv2.resize(
        cells * np.uint8(255), (width * cell, height * cell), interpolation=cv2.INTER_NEAREST
    )


def _render_dots(
    rng: np.random.Generator, cells: np.ndarray, cell: int, radius: float
) -> np.ndarray:
    """Draw a dot for each dark cell, as printed or peened into metal; `radius` is in cells."""
    offset = np.arange(cell) + 0.5 - cell / 2
    distance = np.hypot(*np.meshgrid(offset, offset)) / cell
    dot = np.clip((radius - distance) * cell + 0.5, 0, 1) * 255
    return np.kron(cells, dot.astype(np.uint8))


def _render_styled_cells(rng: np.random.Generator, symbol: CodeSymbol, cell: int) -> np.ndarray:
    """Draw dots or rounded cells; the finder patterns of a QR code are mostly solid."""
    if rng.random() < 0.5:
        ink = _render_dots(rng, symbol.cells, cell, rng.uniform(0.36, 0.55))
    else:
        soft = cv2.GaussianBlur(_render_squares(symbol.cells, cell), (0, 0), 0.28 * cell)
        ink = np.clip((soft.astype(np.int16) - 128) * 4 + 128, 0, 255).astype(np.uint8)
    if symbol.name == "QRCode" and rng.random() < 0.7:
        solid, eye = _render_squares(symbol.cells, cell), 7 * cell
        ink[:eye, :eye], ink[:eye, -eye:], ink[-eye:, :eye] = (
            solid[:eye, :eye],
            solid[:eye, -eye:],
            solid[-eye:, :eye],
        )
    return ink


def _add_logo(rng: np.random.Generator, ink: np.ndarray) -> np.ndarray:
    """Draw a logo on a cleared field in the middle, small enough for the error correction."""
    side = ink.shape[0]
    half = int(side * rng.uniform(0.08, 0.17))
    middle = side // 2
    cv2.rectangle(ink, (middle - half, middle - half), (middle + half, middle + half), 0, -1)
    inner = max(1, int(half * rng.uniform(0.5, 0.85)))
    if rng.random() < 0.5:
        cv2.circle(
            ink,
            (middle, middle),
            inner,
            int(rng.integers(80, 256)),
            -1 if rng.random() < 0.6 else max(1, inner // 3),
        )
    else:
        cv2.rectangle(
            ink,
            (middle - inner, middle - inner // 2),
            (middle + inner, middle + inner // 2),
            200,
            -1,
        )
    return ink


def _vary_ink_amount(rng: np.random.Generator, ink: np.ndarray, cell: int) -> np.ndarray:
    """Dilate or erode the ink, like a printer with too much or too little ink."""
    amount = max(1, int(cell * rng.uniform(0, 0.3)))
    kernel = np.ones((amount + 1, amount + 1), np.uint8)
    if cell < 3:
        return ink
    return cv2.dilate(ink, kernel) if rng.random() < 0.5 else cv2.erode(ink, kernel)


def _render_bars(
    rng: np.random.Generator, symbol: CodeSymbol, side: int, plain: bool
) -> np.ndarray:
    """Draw a barcode with a random height; the long guard bars of EAN and UPC may be removed."""
    cells = symbol.cells
    if (
        not plain
        and cells.shape[0] == 55
        and rng.random() < 0.5
        and symbol.name in ("EAN13", "UPCA", "EAN8", "UPCE")
    ):
        cells = cells[:40]
    columns = cells.shape[1]
    # Height / width. Most are as on usual labels; some barcodes are very flat or nearly square.
    ratio = rng.choice(
        [rng.uniform(0.3, 0.75), rng.uniform(0.12, 0.3), rng.uniform(0.75, 1.3)],
        p=[0.65, 0.25, 0.1],
    )
    long_ones = min(1.0, 110 / columns)
    ratio = max(0.06, ratio * (0.4 + 0.6 * long_ones))
    cell = min(max(1, round(side / columns)), 12)
    width = columns * cell
    ink = cv2.resize(
        cells * np.uint8(255), (width, max(4, int(width * ratio))), interpolation=cv2.INTER_NEAREST
    )
    if not plain and cell >= 3 and rng.random() < 0.3:  # ink spreads across the bars only
        amount = max(1, int(cell * rng.uniform(0, 0.4)))
        kernel = np.ones((1, amount + 1), np.uint8)
        ink = cv2.dilate(ink, kernel) if rng.random() < 0.6 else cv2.erode(ink, kernel)
    return ink
