"""Box geometry. Boxes are `xyxy`, pixels of the upright original, arrays of shape (N, 4)."""

import numpy as np
import pyarrow as pa


def read_boxes_xyxy(rows: pa.Table) -> np.ndarray:
    """The four box columns of a table as (N, 4) float32."""
    return np.stack(
        [rows[name].to_numpy() for name in ("x_min", "y_min", "x_max", "y_max")], axis=1
    )


def box_area(boxes_xyxy: np.ndarray) -> np.ndarray:
    """(N, 4) -> (N,) square pixels; 0 for a box without extent."""
    return np.prod(np.clip(boxes_xyxy[:, 2:] - boxes_xyxy[:, :2], 0, None), axis=1)


def keep_by_nms(
    boxes_xyxy: np.ndarray, scores: np.ndarray, groups: np.ndarray, iou: float
) -> np.ndarray:
    """(N,) bool: greedy non-maximum suppression within each group; a box goes when a kept one overlaps it by > `iou`."""
    import torch
    from torchvision.ops import nms

    keep = np.zeros(len(scores), dtype=bool)
    order = np.argsort(groups, kind="stable")
    # np.array copies: Arrow's buffers are read-only and torch warns about those
    boxes, values = torch.from_numpy(np.array(boxes_xyxy)), torch.from_numpy(np.array(scores))
    # Group by group, not torchvision's batched_nms: that shifts boxes by the group's number times the image's size, and
    # float32 has no digits left for the boxes of image 1,000,000.
    for members in np.split(order, np.flatnonzero(np.diff(groups[order])) + 1):
        keep[members[nms(boxes[members], values[members], iou).numpy()]] = True
    return keep


def rank_within_groups(groups: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """(N,) int: 0 for the best score of its group, 1 for the next ...; ties in the order given."""
    order = np.lexsort((np.arange(len(scores)), -scores, groups))
    first = np.r_[True, np.diff(groups[order]) != 0] if len(scores) else np.zeros(0, dtype=bool)
    starts = np.flatnonzero(first)
    ranks = np.empty(len(scores), dtype=np.int64)
    ranks[order] = np.arange(len(scores)) - np.repeat(starts, np.diff(np.r_[starts, len(scores)]))
    return ranks


def paired_box_iou(boxes_a: np.ndarray, boxes_b: np.ndarray) -> np.ndarray:
    """(N, 4) and (N, 4) -> (N,) float64: the first with the first ... Equal boxes have 1, also those without area."""
    a, b = boxes_a.astype(np.float64), boxes_b.astype(np.float64)
    shared = box_area(
        np.concatenate([np.maximum(a[:, :2], b[:, :2]), np.minimum(a[:, 2:], b[:, 2:])], axis=1)
    )
    union = box_area(a) + box_area(b) - shared
    iou = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return np.where((a == b).all(axis=1), 1.0, iou)


def match_one_to_one(first: np.ndarray, second: np.ndarray) -> np.ndarray:
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
