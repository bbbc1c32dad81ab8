"""The best threshold is the best of all, by trying every one; the interpolated curve is COCO's."""

import numpy as np
import pytest

from pipeline.results.evaluation.average_precision import (
    BestThreshold,
    find_best_threshold,
    interpolate_precision,
    make_threshold_columns,
)


@pytest.mark.parametrize(
    ("scores", "right", "n_truth", "expected"),
    [
        ([], [], 0, None),
        ([], [], 3, None),
        ([0.9, 0.5], [False, False], 2, None),
        ([0.9], [True], 1, BestThreshold(1.0, 0.9, 1.0, 1.0)),
        ([0.9, 0.8], [False, True], 1, BestThreshold(2 / 3, 0.8, 0.5, 1.0)),
        ([0.9, 0.8], [True, False], 1, BestThreshold(1.0, 0.9, 1.0, 1.0)),
        # a threshold keeps all of one score or none
        ([0.9, 0.9], [True, False], 1, BestThreshold(2 / 3, 0.9, 0.5, 1.0)),
        # of equal F1 the highest threshold: 2/3 with one of two, 4/6 with all four
        ([0.9, 0.8, 0.7, 0.6], [True, False, False, True], 2, BestThreshold(2 / 3, 0.9, 1.0, 0.5)),
    ],
)
def test_best_f1(scores: list, right: list, n_truth: int, expected: BestThreshold | None) -> None:
    hits = np.array(right, dtype=bool)
    assert find_best_threshold(np.array(scores, dtype=float), hits, ~hits, n_truth) == expected


@pytest.mark.parametrize("seed", range(5))
def test_best_f1_is_the_best_of_all_thresholds(seed: int) -> None:
    """With ignored detections, which are neither right nor wrong, and many equal scores."""
    rng = np.random.default_rng(seed)
    scores = np.sort(rng.integers(0, 30, 200) / 30)[::-1]
    right = rng.random(200) < scores
    wrong = ~right & (rng.random(200) < 0.8)
    n_truth = int(right.sum()) + 20
    tried = {}
    for threshold in np.unique(scores):
        kept = scores >= threshold
        hits, misses = int(right[kept].sum()), int(wrong[kept].sum())
        precision, recall = hits / (hits + misses), hits / n_truth
        tried[threshold] = 2 * precision * recall / (precision + recall)
    best = find_best_threshold(scores, right, wrong, n_truth)
    assert best is not None and best.f1 == pytest.approx(max(tried.values()))
    assert tried[best.threshold] == pytest.approx(best.f1)
    assert best.f1 == pytest.approx(
        2 * best.precision * best.recall / (best.precision + best.recall)
    )


def test_columns_of_no_best() -> None:
    assert make_threshold_columns(None) == {
        "f1": None,
        "threshold": None,
        "precision": None,
        "recall": None,
    }


@pytest.mark.parametrize(
    ("right", "n_truth", "expected"),
    [
        ([], 2, [0, 0, 0]),
        ([False], 2, [0, 0, 0]),
        ([True], 2, [1, 1, 0]),
        ([False, True, True], 2, [2 / 3, 2 / 3, 2 / 3]),  # the best at that recall or a higher one
        ([True, False, True], 2, [1, 1, 2 / 3]),
    ],
)
def test_interpolated(right: list, n_truth: int, expected: list) -> None:
    hits = np.array(right, dtype=bool)
    assert interpolate_precision(
        hits, ~hits, n_truth, np.array([0, 0.5, 1.0])
    ).tolist() == pytest.approx(expected)
