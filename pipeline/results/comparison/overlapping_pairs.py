"""Find pairs of overlapping boxes. Boxes are arrays (N, 4) in the format xyxy."""

from collections.abc import Iterator

import numpy as np

from pipeline.ops.boxes import paired_box_iou

_PAIRS = 1 << 20  # pairs to compare at once; they take about 100 MB


def find_overlapping_pairs(
    boxes_a: np.ndarray,
    groups_a: np.ndarray,
    boxes_b: np.ndarray,
    groups_b: np.ndarray,
    least_iou: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find all pairs of boxes of the same group whose IoU is at least `least_iou`.

    Args:
        boxes_a: (N, 4).
        groups_a: (N,) group of each box, ascending.
        boxes_b: (M, 4).
        groups_b: (M,) group of each box, ascending.

    Returns:
        Three arrays (pairs,): the row in a, the row in b and the IoU of each pair.
    """
    found = [(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))]
    for a, b in _pairs(groups_a, groups_b):
        iou = paired_box_iou(boxes_a[a], boxes_b[b])
        near = iou >= least_iou
        found.append((a[near], b[near], iou[near]))
    first, second, ious = (np.concatenate(column) for column in zip(*found, strict=True))
    return first, second, ious


def _pairs(groups_a: np.ndarray, groups_b: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield (rows of a, rows of b) of all pairs of the same group, about `_PAIRS` at a time."""
    starts = np.searchsorted(groups_b, groups_a, side="left")
    counts = np.searchsorted(groups_b, groups_a, side="right") - starts
    chunk = np.cumsum(counts) // _PAIRS
    for rows in np.split(np.arange(len(groups_a)), np.flatnonzero(np.diff(chunk)) + 1):
        n = counts[rows]
        first = np.repeat(rows, n)
        within = np.arange(len(first)) - np.repeat(np.cumsum(n) - n, n)
        yield first, np.repeat(starts[rows], n) + within
