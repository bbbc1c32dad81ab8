from collections import Counter

import numpy as np
import pytest
import zxingcpp

from pipeline.training.synthetic.code_symbols import BARCODE, DATA_MATRIX, MARKER, QR, draw_symbol
from pipeline.training.synthetic.fonts_and_words import TRAINING


def drawn(label, count):
    rng = np.random.default_rng(label)
    return [draw_symbol(rng, TRAINING, label) for _ in range(count)]


@pytest.mark.parametrize("label", [QR, BARCODE, DATA_MATRIX, MARKER])
def test_a_symbol_is_cells_of_zero_and_one(label):
    for one in drawn(label, 50):
        assert (
            one.label == label
            and one.cells.dtype == np.uint8
            and set(np.unique(one.cells)) == {0, 1}
        )
        assert one.cells[:, 0].any() and one.cells[0].any()  # no quiet zone around it


@pytest.mark.parametrize(("label", "least"), [(QR, 0.97), (BARCODE, 0.9), (DATA_MATRIX, 0.97)])
def test_codes_can_be_read(label, least):
    symbols = drawn(label, 60)
    images = [
        np.kron(np.pad(255 * (1 - one.cells), 12, constant_values=255), np.ones((4, 4), np.uint8))
        for one in symbols
    ]
    assert sum(bool(zxingcpp.read_barcodes(image)) for image in images) >= least * len(symbols)


def test_linear_codes_are_of_many_kinds_and_data_matrices_of_many_shapes():
    assert len(Counter(one.name for one in drawn(BARCODE, 300))) == 11
    shapes = {one.cells.shape for one in drawn(DATA_MATRIX, 300)}
    assert len(shapes) > 10 and any(height != width for height, width in shapes)
