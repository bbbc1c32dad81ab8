"""Distractors that resemble codes: grids, shapes, stripes, text."""

import numpy as np
import pytest
import zxingcpp

from pipeline.training.synthetic.distractor_grids import render_grid
from pipeline.training.synthetic.distractor_shapes import render_shape
from pipeline.training.synthetic.distractor_stripes import render_stripes
from pipeline.training.synthetic.distractor_text import (
    render_headline,
    render_lettering,
    render_listing,
    render_paragraph,
)
from pipeline.training.synthetic.fonts_and_words import TRAINING

LIKENESSES = [
    render_grid,
    render_shape,
    render_stripes,
    render_headline,
    render_lettering,
    render_paragraph,
    render_listing,
]


@pytest.mark.parametrize("make", LIKENESSES)
@pytest.mark.parametrize("side", [16, 90, 400])
def test_it_is_a_picture_without_codes(make, side):
    for seed in range(12):
        made = make(np.random.default_rng(seed), TRAINING, side)
        assert made.pixels.dtype == np.uint8 and made.pixels.ndim == 3 and made.codes == ()
        assert 4 <= max(made.size_hw) <= 8 * side + 60
        assert made.alpha is None or made.alpha.shape == made.size_hw


@pytest.mark.parametrize("make", LIKENESSES)
def test_no_reader_finds_a_code_in_it_and_no_two_are_equal(make):
    made = [make(np.random.default_rng(seed), TRAINING, 200).pixels for seed in range(20)]
    assert not any(zxingcpp.read_barcodes(one) for one in made)
    assert len({one.tobytes() for one in made}) == 20
