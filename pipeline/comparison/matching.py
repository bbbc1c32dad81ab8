"""Which rows of one table mean the same as rows of another. Boxes are `xyxy`, arrays of shape (N, 4)."""

from collections.abc import Iterator

import numpy as np

from pipeline.boxes import area_xyxy

_PAIRS = 1 << 20  # looked at together: 100 MB or so


def iou_of_pairs(boxes_a: np.ndarray, boxes_b: np.ndarray) -> np.ndarray:
    """(N, 4) and (N, 4) -> (N,) float64: the first with the first ... Equal boxes have 1, also those without area."""
    a, b = boxes_a.astype(np.float64), boxes_b.astype(np.float64)
    shared = area_xyxy(np.concatenate([np.maximum(a[:, :2], b[:, :2]), np.minimum(a[:, 2:], b[:, 2:])], axis=1))
    union = area_xyxy(a) + area_xyxy(b) - shared
    iou = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return np.where((a == b).all(axis=1), 1.0, iou)


def overlapping(
    boxes_a: np.ndarray, groups_a: np.ndarray, boxes_b: np.ndarray, groups_b: np.ndarray, least_iou: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(rows of a, rows of b, IoU) of all pairs within one group that overlap by `least_iou` or more. Groups ascend."""
    found = [(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))]
    for a, b in _pairs(groups_a, groups_b):
        iou = iou_of_pairs(boxes_a[a], boxes_b[b])
        near = iou >= least_iou
        found.append((a[near], b[near], iou[near]))
    first, second, ious = (np.concatenate(column) for column in zip(*found, strict=True))
    return first, second, ious


def _pairs(groups_a: np.ndarray, groups_b: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(rows of a, rows of b): every pair within one group, about `_PAIRS` at a time."""
    starts = np.searchsorted(groups_b, groups_a, side="left")
    counts = np.searchsorted(groups_b, groups_a, side="right") - starts
    chunk = np.cumsum(counts) // _PAIRS
    for rows in np.split(np.arange(len(groups_a)), np.flatnonzero(np.diff(chunk)) + 1):
        n = counts[rows]
        first = np.repeat(rows, n)
        within = np.arange(len(first)) - np.repeat(np.cumsum(n) - n, n)
        yield first, np.repeat(starts[rows], n) + within


def one_to_one(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(N,) bool: the pairs that are kept when each row may have one partner and earlier pairs choose before later ones."""
    keep = np.zeros(len(first), dtype=bool)
    taken_a: set[int] = set()
    taken_b: set[int] = set()
    for n, (a, b) in enumerate(zip(first.tolist(), second.tolist(), strict=True)):
        if a not in taken_a and b not in taken_b:
            keep[n] = True
            taken_a.add(a)
            taken_b.add(b)
    return keep
