import numpy as np
import pytest
import zxingcpp

from pipeline.training.synthetic.code_symbols import BARCODE, DATA_MATRIX, MARKER, QR
from pipeline.training.synthetic.fonts_and_words import TRAINING
from pipeline.training.synthetic.printed_labels import render_label, render_sheet

LABELS = [QR, BARCODE, DATA_MATRIX, MARKER]


@pytest.mark.parametrize("kind", LABELS)
@pytest.mark.parametrize("bare", [True, False])
def test_a_label_holds_its_code(kind, bare):
    rng = np.random.default_rng(0)
    for side in (8, 60, 300):
        made = render_label(rng, TRAINING, kind, side, bare)
        ((found, points),) = made.codes
        assert found == kind and made.pixels.dtype == np.uint8
        assert (points >= 0).all() and (points <= made.size_hw[::-1]).all()


@pytest.mark.parametrize(("kind", "least"), [(QR, 0.6), (BARCODE, 0.6), (DATA_MATRIX, 0.5)])
def test_many_printed_codes_can_be_read(kind, least):
    rng = np.random.default_rng(1)
    read = 0
    for _ in range(40):
        made = render_label(rng, TRAINING, kind, 400, bare=True)
        padded = np.pad(made.pixels, ((20, 20), (20, 20), (0, 0)), mode="edge")
        read += bool(zxingcpp.read_barcodes(padded))
    assert read >= least * 40


def test_the_outline_is_the_code_without_its_quiet_zone():
    rng = np.random.default_rng(2)
    for _ in range(20):
        made = render_label(rng, TRAINING, MARKER, 100, bare=True)  # markers have a solid border
        points = made.codes[0][1].astype(int)
        x0, y0, x1 = points[:, 0].min(), points[:, 1].min(), points[:, 0].max()
        border, paper = made.pixels[y0, x0:x1].astype(int), made.pixels[y0 - 1, x0:x1].astype(int)
        assert np.abs(border - paper).sum(1).min() > 20


def test_a_sheet_holds_the_codes_of_all_its_labels_apart():
    rng = np.random.default_rng(3)
    made = render_sheet(
        rng, TRAINING, [render_label(rng, TRAINING, kind, 40) for kind in LABELS], 2
    )
    boxes = [(points.min(0), points.max(0)) for _, points in made.codes]
    assert [kind for kind, _ in made.codes] == LABELS
    for number, (low, high) in enumerate(boxes):
        assert not any(
            (np.minimum(high, h) > np.maximum(low, lo)).all() for lo, h in boxes[:number]
        )
