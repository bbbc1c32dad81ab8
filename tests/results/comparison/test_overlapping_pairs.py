"""Pairs of boxes that overlap, and one-to-one among them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.ops.boxes import match_one_to_one, paired_box_iou
from pipeline.results.comparison import overlapping_pairs as matching
from pipeline.results.comparison.overlapping_pairs import find_overlapping_pairs

SQUARE = [0.0, 0.0, 10.0, 10.0]


@pytest.mark.parametrize(
    ("one", "other", "iou"),
    [
        (SQUARE, SQUARE, 1.0),
        (SQUARE, [0, 0, 10, 5], 0.5),
        (SQUARE, [5, 5, 15, 15], 25 / 175),
        (SQUARE, [10, 0, 20, 10], 0.0),
        ([3, 3, 3, 3], [3, 3, 3, 3], 1.0),  # a box without area is itself
        ([3, 3, 3, 3], [4, 4, 4, 4], 0.0),
        ([9, 9, 2, 2], [9, 9, 2, 2], 1.0),  # corners exchanged
    ],
)
def test_iou(one: list[float], other: list[float], iou: float) -> None:
    pair = np.array([one], np.float32), np.array([other], np.float32)
    assert paired_box_iou(*pair) == pytest.approx(iou) and paired_box_iou(
        *pair[::-1]
    ) == pytest.approx(iou)


def boxes(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """(n, 4) boxes and their groups, ascending."""
    corner = rng.integers(0, 12, (n, 2))
    return np.concatenate([corner, corner + rng.integers(0, 12, (n, 2))], axis=1), np.sort(
        rng.integers(0, 4, n)
    )


@pytest.mark.parametrize(("n", "m"), [(0, 0), (0, 5), (5, 0), (1, 1), (30, 40)])
def test_all_pairs_of_a_group_are_looked_at_however_many_at_once(
    n: int, m: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(n)
    (a, groups_a), (b, groups_b) = boxes(rng, n), boxes(rng, m)
    expected = [
        (i, j)
        for i in range(n)
        for j in range(m)
        if groups_a[i] == groups_b[j] and paired_box_iou(a[i : i + 1], b[j : j + 1])[0] >= 0.3
    ]
    for at_once in (1, 7, 1 << 20):
        monkeypatch.setattr(matching, "_PAIRS", at_once)
        first, second, iou = find_overlapping_pairs(a, groups_a, b, groups_b, 0.3)
        assert (
            list(zip(first.tolist(), second.tolist(), strict=True)) == expected
            and (iou >= 0.3).all()
        )
    assert len(expected) > 10 or min(n, m) < 2


def test_earlier_pairs_choose_first() -> None:
    first, second = np.array([0, 0, 1, 1]), np.array([1, 0, 1, 0])
    assert match_one_to_one(first, second).tolist() == [True, False, False, True]
    assert match_one_to_one(first[:0], second[:0]).tolist() == []


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6))))
def test_nobody_has_two_partners_and_no_pair_is_left_over(pairs: list[tuple[int, int]]) -> None:
    first, second = np.array([a for a, _ in pairs], int), np.array([b for _, b in pairs], int)
    keep = match_one_to_one(first, second)
    a, b = first[keep].tolist(), second[keep].tolist()
    assert len(a) == len(set(a)) and len(b) == len(set(b))
    assert all(one in a or other in b for one, other in pairs)
