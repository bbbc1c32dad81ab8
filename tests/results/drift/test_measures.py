"""Distances between samples against known values and the laws that they must keep."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pipeline.results.drift.measures import jensen_shannon, kolmogorov_smirnov, stability_index

COUNTS = st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**6)), min_size=1, max_size=30)


def many(*shares: float) -> np.ndarray:
    return np.array(shares) * 10**9


@pytest.mark.parametrize(
    ("reference", "new", "index", "distance"),
    [
        (many(1), many(1), 0, 0),
        (many(0.5, 0.5), many(0.5, 0.5), 0, 0),
        (many(0.5, 0.5), many(0.25, 0.75), 0.25 * np.log(2) + 0.25 * np.log(1.5), 0.2208),
        (many(0.2, 0.8), many(0.8, 0.2), 1.2 * np.log(4), 0.5273),
    ],
)
def test_known_values(
    reference: np.ndarray, new: np.ndarray, index: float, distance: float
) -> None:
    assert stability_index(reference, new)[0] == pytest.approx(index, abs=1e-6)
    assert jensen_shannon(reference, new) == pytest.approx(distance, abs=1e-4)


def test_nothing_in_common() -> None:
    index, chance = stability_index(np.array([100.0, 0]), np.array([0, 100.0]))
    assert 5 < index < 50 and chance < 1e-9, "large, not infinite"
    assert jensen_shannon(np.array([100.0, 0]), np.array([0, 100.0])) == pytest.approx(1)


@given(COUNTS)
def test_laws_of_shares(counts: list[tuple[int, int]]) -> None:
    p, q = np.array(counts, float).T
    assume(p.sum() and q.sum())
    assert stability_index(p, q) == pytest.approx(stability_index(q, p))
    assert stability_index(p, q)[0] >= 0 and 0 <= stability_index(p, q)[1] <= 1
    assert 0 <= jensen_shannon(p, q) <= 1 + 1e-9 and stability_index(p, p)[0] == 0
    assert jensen_shannon(p, p) == pytest.approx(0, abs=1e-6)


def test_chance_is_what_it_says() -> None:
    """Without drift a chance below 5 % comes up about once in twenty times."""
    rng = np.random.default_rng(0)
    shares = np.array([0.4, 0.3, 0.2, 0.1])
    pairs = [
        (rng.multinomial(400, shares).astype(float), rng.multinomial(900, shares).astype(float))
        for _ in range(400)
    ]
    assert 0.02 < np.mean([stability_index(p, q)[1] < 0.05 for p, q in pairs]) < 0.08


def test_numbers() -> None:
    rng = np.random.default_rng(0)
    sample = rng.normal(size=4000)
    assert kolmogorov_smirnov(sample, sample) == (0, 1)
    value, chance = kolmogorov_smirnov(sample, rng.normal(0.5, size=4000))
    assert value == pytest.approx(0.197, abs=0.03) and chance < 1e-9, "half a standard deviation"
    assert kolmogorov_smirnov(np.zeros(3), np.ones(3))[0] == 1
