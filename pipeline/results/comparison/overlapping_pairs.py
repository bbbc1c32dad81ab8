"""Find pairs of overlapping boxes. Boxes are `xyxy`, arrays of shape (N, 4)."""

from collections.abc import Iterator

import numpy as np

from pipeline.ops.boxes import paired_box_iou

_PAIRS = 1 << 20  # looked at together: 100 MB or so


def find_overlapping_pairs(
    boxes_a: np.ndarray,
    groups_a: np.ndarray,
    boxes_b: np.ndarray,
    groups_b: np.ndarray,
    least_iou: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find all pairs within one group that overlap by `least_iou` or more.

    Groups must ascend.

    Returns:
        Rows of a, rows of b and the IoU of each pair.
    """
    found = [(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))]
    for a, b in _pairs(groups_a, groups_b):
        iou = paired_box_iou(boxes_a[a], boxes_b[b])
        near = iou >= least_iou
        found.append((a[near], b[near], iou[near]))
    first, second, ious = (np.concatenate(column) for column in zip(*found, strict=True))
    return first, second, ious


def _pairs(groups_a: np.ndarray, groups_b: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield (rows of a, rows of b): every pair within one group, about `_PAIRS` at a time."""
    starts = np.searchsorted(groups_b, groups_a, side="left")
    counts = np.searchsorted(groups_b, groups_a, side="right") - starts
    chunk = np.cumsum(counts) // _PAIRS
    for rows in np.split(np.arange(len(groups_a)), np.flatnonzero(np.diff(chunk)) + 1):
        n = counts[rows]
        first = np.repeat(rows, n)
        within = np.arange(len(first)) - np.repeat(np.cumsum(n) - n, n)
        yield first, np.repeat(starts[rows], n) + within
