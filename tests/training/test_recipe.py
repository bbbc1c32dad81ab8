"""The learning rate rises linearly, then falls as half a cosine."""

from itertools import pairwise

import pytest

from pipeline.training.recipe import compute_learning_rate


def test_it_rises_in_a_line_and_falls_as_a_cosine():
    rates = [compute_learning_rate(step, 100, 0.1, 1.0) for step in range(100)]
    assert rates[:10] == pytest.approx([0.1 * k for k in range(1, 11)])
    assert rates[55] == pytest.approx(0.5)  # half of the way down
    assert all(a >= b for a, b in pairwise(rates[10:]))
    assert 0 < rates[-1] < 0.001


@pytest.mark.parametrize(
    ("step", "total", "warmup", "rate"), [(0, 1, 0.0, 1.0), (0, 1, 0.9, 1.0), (0, 10, 0.0, 1.0)]
)
def test_short_trainings_learn_too(step, total, warmup, rate):
    assert compute_learning_rate(step, total, warmup, 1.0) == pytest.approx(rate)
