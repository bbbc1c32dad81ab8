"""One object, one detection."""

import numpy as np
import pytest

from pipeline.results.evaluation.confusion import BoxConfusion

A, B, NOTHING = 0, 1, 2
HERE, NEAR, THERE = [0, 0, 10, 10], [0, 0, 10, 9], [50, 50, 10, 10]


def counts(truth: list, found: list, crowd: tuple = ()) -> dict[tuple[int, int], int]:
    confusion = BoxConfusion(("a", "b"), 0.5)
    classes, boxes = (
        np.array([k for k, _ in truth], int),
        np.array([xywh for _, xywh in truth], float).reshape(-1, 4),
    )
    crowds = np.isin(np.arange(len(truth)), crowd)
    found_boxes = np.array([xywh for _, xywh in found], float).reshape(-1, 4)
    confusion.add(classes, boxes, crowds, np.array([k for k, _ in found], int), found_boxes)
    result = confusion.result()
    assert result.names == ("a", "b", "background")
    return {
        (int(t), int(p)): int(result.counts[t, p])
        for t, p in zip(*np.nonzero(result.counts), strict=True)
    }


@pytest.mark.parametrize(
    ("truth", "found", "crowd", "expected"),
    [
        ([], [], (), {}),
        ([(A, HERE)], [], (), {(A, NOTHING): 1}),
        ([], [(B, HERE)], (), {(NOTHING, B): 1}),
        ([(A, HERE)], [(A, NEAR)], (), {(A, A): 1}),
        ([(A, HERE)], [(B, NEAR)], (), {(A, B): 1}),
        ([(A, HERE)], [(A, THERE)], (), {(A, NOTHING): 1, (NOTHING, A): 1}),
        # found twice: once is too much
        ([(A, HERE)], [(A, HERE), (A, NEAR)], (), {(A, A): 1, (NOTHING, A): 1}),
        # the right class comes before the better overlap
        ([(A, HERE)], [(B, HERE), (A, NEAR)], (), {(A, A): 1, (NOTHING, B): 1}),
        ([(A, HERE), (B, NEAR)], [(A, NEAR), (B, HERE)], (), {(A, A): 1, (B, B): 1}),
        # a crowd: finding it is neither right nor wrong, unless by another class
        ([(A, [0, 0, 90, 90])], [(A, HERE), (A, THERE)], (0,), {}),
        ([(A, [0, 0, 90, 90])], [(B, HERE)], (0,), {(NOTHING, B): 1}),
        ([(A, [0, 0, 90, 90]), (A, HERE)], [(A, HERE)], (0,), {(A, A): 1}),
    ],
)
def test_confusion(truth: list, found: list, crowd: tuple, expected: dict) -> None:
    assert counts(truth, found, crowd) == expected
