import numpy as np
import pytest

from pipeline.training.synthetic.code_symbols import BARCODE, DATA_MATRIX, MARKER, QR, draw_symbol
from pipeline.training.synthetic.fonts_and_words import TRAINING
from pipeline.training.synthetic.ink import render_ink


@pytest.mark.parametrize("label", [QR, BARCODE, DATA_MATRIX, MARKER])
@pytest.mark.parametrize("side", [1, 40, 300])
def test_ink_is_about_as_large_as_asked_for(label, side):
    rng = np.random.default_rng(0)
    for _ in range(30):
        one = draw_symbol(rng, TRAINING, label)
        ink = render_ink(rng, one, side)
        cells = max(one.cells.shape) if label != BARCODE else one.cells.shape[1]
        assert ink.dtype == np.uint8 and ink.max() == 255 and ink.shape[1] % one.cells.shape[1] == 0
        longer = ink.shape[1] if label == BARCODE else max(ink.shape)
        assert max(cells, side - cells) <= longer <= max(cells, side + cells)


@pytest.mark.parametrize("label", [QR, DATA_MATRIX, MARKER])
def test_plain_ink_is_the_cells(label):
    rng = np.random.default_rng(1)
    one = draw_symbol(rng, TRAINING, label)
    ink = render_ink(rng, one, 200, plain=True)
    cell = ink.shape[0] // one.cells.shape[0]
    assert np.array_equal(ink, np.kron(one.cells, np.ones((cell, cell), np.uint8)) * 255)


def test_bars_keep_their_order_and_run_from_top_to_bottom():
    rng = np.random.default_rng(2)
    one = draw_symbol(rng, TRAINING, BARCODE)
    ink = render_ink(rng, one, 400, plain=True)
    cell = ink.shape[1] // one.cells.shape[1]
    assert np.array_equal(ink[1, ::cell] > 0, one.cells[0] > 0)
