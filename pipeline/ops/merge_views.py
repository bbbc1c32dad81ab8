"""Merge detections of one object that was seen in several views of an image.

Boxes are xyxy in pixels of the upright original.

Two boxes of one class and of different views show the same object in either of two cases:

- Their IoU is above `iou` after both boxes are clipped to the area that both views show. So a whole
  object in one tile matches its part in the next tile, but two nested objects do not match.
- One box is a fragment, and the other covers more than half of its area. A fragment is a box that
  ends at an edge of its window, where that edge is not an edge of the image.

Boxes of one view never remove each other, because the model has already suppressed duplicates.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from pipeline.ops.boxes import box_area

# A box ends at an edge if its distance from the edge is at most the larger of these two values: in
# pixels, and as a fraction of the window's side.
_EDGE_DISTANCE, _EDGE_DISTANCE_SHARE = 2.0, 0.01
_COVERED_SHARE = 0.5  # a fragment belongs to a box that covers more than this share of its area
_FRAGMENT_WEIGHT = 0.5  # factor on a fragment's score when detections compete for an object


@dataclass(frozen=True)
class ViewDetections:
    """The N detections of all views of one image."""

    boxes_xyxy: np.ndarray  # (N, 4) float64, pixels of the upright original
    scores: np.ndarray  # (N,) float64
    labels: np.ndarray  # (N,) int, class ids
    view: np.ndarray  # (N,) int, index of the view that shows the detection
    windows_xyxy: np.ndarray  # (N, 4) float64, the window of that view
    image_hw: tuple[int, int]

    @cached_property
    def is_fragment(self) -> np.ndarray:
        """(N,) bool, true where a box ends at an inner edge of its window."""
        height, width = self.image_hw
        sides = self.windows_xyxy[:, 2:] - self.windows_xyxy[:, :2]  # (N, 2)
        distance = np.tile(np.maximum(_EDGE_DISTANCE, _EDGE_DISTANCE_SHARE * sides), 2)  # (N, 4)
        is_inner = self.windows_xyxy != np.array([0, 0, width, height])
        return (is_inner & (np.abs(self.boxes_xyxy - self.windows_xyxy) <= distance)).any(axis=1)

    @cached_property
    def areas(self) -> np.ndarray:
        """(N,) areas of the boxes, in square pixels."""
        return box_area(self.boxes_xyxy)

    def mark_same_object(self, i: int, others: np.ndarray, iou: float) -> np.ndarray:
        """Find which detections show the same object as detection `i`.

        Args:
            i: Index of a detection.
            others: (M,) int, indices of detections of the same class.
            iou: Smallest IoU of two boxes of one object.

        Returns:
            (M,) bool.
        """
        boxes, windows = self.boxes_xyxy, self.windows_xyxy

        both_see = _intersect(windows[i], windows[others])
        box, other_boxes = _intersect(boxes[i], both_see), _intersect(boxes[others], both_see)
        shared = box_area(_intersect(box, other_boxes))
        union = box_area(box) + box_area(other_boxes) - shared
        is_same = shared > iou * union

        covered = box_area(_intersect(boxes[i], boxes[others]))
        is_same |= self.is_fragment[others] & (covered > _COVERED_SHARE * self.areas[others])
        is_same |= self.is_fragment[i] & (covered > _COVERED_SHARE * self.areas[i])
        return is_same & (self.view[others] != self.view[i])


def merge_detections(
    detections: ViewDetections, iou: float, union: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Keep one detection per object.

    The best detection of an object stays, and it gets the highest score of the object's
    detections. To find the best one, the score of a fragment is halved.

    Args:
        detections: The detections of all views of one image.
        iou: Smallest IoU of two boxes of one object.
        union: Use non-maximum merging: a fragment that stays gets the box around all parts of
            its object. A box that is not a fragment is not changed.

    Returns:
        The indices of the K detections that stay, best first within a class; their boxes (K, 4);
        their scores (K,).
    """
    boxes, scores = detections.boxes_xyxy.copy(), detections.scores.copy()
    weights = np.where(detections.is_fragment, _FRAGMENT_WEIGHT, 1.0) * scores
    kept = []

    for label in np.unique(detections.labels):
        members = np.flatnonzero(detections.labels == label)
        members = members[np.argsort(-weights[members], kind="stable")]
        for best, parts in _group_by_object(detections, members, iou, is_chained=union):
            kept.append(best)
            group = np.r_[best, parts]
            scores[best] = detections.scores[group].max()
            if union and detections.is_fragment[best]:
                corners = detections.boxes_xyxy[group]
                boxes[best] = np.r_[corners[:, :2].min(axis=0), corners[:, 2:].max(axis=0)]

    indices = np.array(kept, dtype=np.int64)
    return indices, boxes[indices], scores[indices]


def _group_by_object(
    detections: ViewDetections, members: np.ndarray, iou: float, is_chained: bool
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield each object of one class: the index of its best detection, and those of the others.

    Only one row of the matrix of all pairs is in memory at a time, because the whole matrix of
    thousands of detections would be too large.

    Args:
        detections: The detections of all views of one image.
        members: (M,) int, the detections of the class, best first.
        iou: Smallest IoU of two boxes of one object.
        is_chained: Also add fragments that match another fragment of the object, so that the
            parts of an object in three tiles are grouped together.
    """
    free = members
    while len(free):
        best, free = int(free[0]), free[1:]
        parts, pending = [], [best]
        while pending:
            is_same = detections.mark_same_object(pending.pop(), free, iou)
            parts.append(free[is_same])
            if is_chained and detections.is_fragment[best]:
                pending += [int(i) for i in free[is_same] if detections.is_fragment[i]]
            free = free[~is_same]
        yield best, np.concatenate(parts)


def _intersect(a_xyxy: np.ndarray, b_xyxy: np.ndarray) -> np.ndarray:
    """Return the intersection of each pair of boxes; the arrays may broadcast.

    `box_area` is 0 for the intersection of boxes that do not overlap.
    """
    return np.concatenate(
        [
            np.maximum(a_xyxy[..., :2], b_xyxy[..., :2]),
            np.minimum(a_xyxy[..., 2:], b_xyxy[..., 2:]),
        ],
        axis=-1,
    )
