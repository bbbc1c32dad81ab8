"""Geometry of boxes.

`boxes_xyxy` is an array (N, 4) of x_min, y_min, x_max, y_max in pixels of the upright original.
"""

import numpy as np
import pyarrow as pa


def read_boxes_xyxy(rows: pa.Table) -> np.ndarray:
    """Return the four box columns of a table as (N, 4) float32, pixels of the upright original."""
    return np.stack(
        [rows[name].to_numpy() for name in ("x_min", "y_min", "x_max", "y_max")], axis=1
    )


def box_area(boxes_xyxy: np.ndarray) -> np.ndarray:
    """Return the areas of (N, 4) boxes as (N,), in square pixels.

    A box with x_max < x_min or y_max < y_min has area 0.
    """
    return np.prod(np.clip(boxes_xyxy[:, 2:] - boxes_xyxy[:, :2], 0, None), axis=1)


def paired_box_iou(boxes_a_xyxy: np.ndarray, boxes_b_xyxy: np.ndarray) -> np.ndarray:
    """Return the IoU of row i of both arrays, for each i: (N, 4), (N, 4) -> (N,) float64.

    The IoU of two equal boxes is 1, even when they have no area.
    """
    a, b = boxes_a_xyxy.astype(np.float64), boxes_b_xyxy.astype(np.float64)
    corners = [np.maximum(a[:, :2], b[:, :2]), np.minimum(a[:, 2:], b[:, 2:])]
    shared = box_area(np.concatenate(corners, axis=1))
    union = box_area(a) + box_area(b) - shared
    iou = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)

    return np.where((a == b).all(axis=1), 1.0, iou)


def keep_by_nms(
    boxes_xyxy: np.ndarray, scores: np.ndarray, groups: np.ndarray, iou: float
) -> np.ndarray:
    """Select boxes by greedy non-maximum suppression within each group.

    Args:
        boxes_xyxy: (N, 4) float32.
        scores: (N,) float32.
        groups: (N,) int. Boxes of different groups never suppress each other.
        iou: A box is dropped when a kept box overlaps it by more than this.

    Returns:
        (N,) bool, true for the boxes to keep.
    """
    import torch
    from torchvision.ops import nms

    keep = np.zeros(len(scores), dtype=bool)
    order = np.argsort(groups, kind="stable")
    # np.array copies: Arrow's buffers are read-only, and torch warns about read-only arrays.
    boxes, values = torch.from_numpy(np.array(boxes_xyxy)), torch.from_numpy(np.array(scores))

    # torchvision's batched_nms shifts boxes by the group number times the image size. For group
    # 1,000,000, float32 has no digits left for the boxes. So each group gets its own call.
    for members in np.split(order, np.flatnonzero(np.diff(groups[order])) + 1):
        keep[members[nms(boxes[members], values[members], iou).numpy()]] = True
    return keep


def rank_within_groups(groups: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return each row's rank by score within its group: (N,), (N,) -> (N,) int64.

    Rank 0 is the best score. Equal scores are ranked in the order given.
    """
    order = np.lexsort((np.arange(len(scores)), -scores, groups))
    is_first = np.r_[True, np.diff(groups[order]) != 0] if len(scores) else np.zeros(0, dtype=bool)
    starts = np.flatnonzero(is_first)
    ranks = np.empty(len(scores), dtype=np.int64)
    ranks[order] = np.arange(len(scores)) - np.repeat(starts, np.diff(np.r_[starts, len(scores)]))
    return ranks


def match_one_to_one(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Select pairs greedily, so that each left and each right index is used at most once.

    Args:
        first: (N,) int, the left index of each candidate pair. The best pair comes first.
        second: (N,) int, the right index of each candidate pair.

    Returns:
        (N,) bool, true for the pairs to keep.
    """
    keep = np.zeros(len(first), dtype=bool)
    used_first: set[int] = set()
    used_second: set[int] = set()
    for n, (a, b) in enumerate(zip(first.tolist(), second.tolist(), strict=True)):
        if a not in used_first and b not in used_second:
            keep[n] = True
            used_first.add(a)
            used_second.add(b)
    return keep
