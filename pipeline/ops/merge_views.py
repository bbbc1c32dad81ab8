"""One object seen in several views of an image -> one detection. Boxes are `xyxy`, pixels of the upright original.

Two boxes of one class and of different views are the same object when they agree where both views could see it: the IoU
of the two, clipped to what both windows show, is above `iou`. So a whole object in one tile matches its part in the next,
and of two nested objects both stay. A box that ends at an edge of its window which is not the image's border is a fragment:
one that another view's box covers by more than half of its own area is the same object too.

Boxes of one view never remove each other: the model's own suppression has decided about them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from pipeline.ops.boxes import box_area

_NEAR, _NEAR_SHARE = (
    2.0,
    0.01,
)  # a box ends at an edge when it is nearer than this: pixels, share of the window's side
_COVERED = 0.5  # share of a fragment's own area
_FRAGMENT_COUNTS = 0.5  # of its score, when it competes with others for an object


@dataclass(frozen=True)
class ViewDetections:
    """The detections of all views of an image, N together."""

    boxes_xyxy: np.ndarray  # (N, 4) float64, in the image
    scores: np.ndarray  # (N,) float64
    labels: np.ndarray  # (N,) int
    view: np.ndarray  # (N,) int, which view saw it
    windows_xyxy: np.ndarray  # (N, 4) float64, what that view shows
    image_hw: tuple[int, int]

    @cached_property
    def is_fragment(self) -> np.ndarray:
        """(N,) bool: ends at an inner edge of its window."""
        height, width = self.image_hw
        sides = self.windows_xyxy[:, 2:] - self.windows_xyxy[:, :2]  # (N, 2)
        near = np.tile(np.maximum(_NEAR, _NEAR_SHARE * sides), 2)  # (N, 4)
        inner = self.windows_xyxy != np.array([0, 0, width, height])
        return (inner & (np.abs(self.boxes_xyxy - self.windows_xyxy) <= near)).any(axis=1)

    @cached_property
    def areas(self) -> np.ndarray:
        return box_area(self.boxes_xyxy)

    def mark_same_object(self, i: int, others: np.ndarray, iou: float) -> np.ndarray:
        """(len(others),) bool: which of these detections, of i's class, are i's object."""
        boxes, windows = self.boxes_xyxy, self.windows_xyxy
        both_see = _intersection(windows[i], windows[others])
        mine, theirs = _intersection(boxes[i], both_see), _intersection(boxes[others], both_see)
        shared = box_area(_intersection(mine, theirs))
        either = box_area(mine) + box_area(theirs) - shared
        same = shared > iou * either
        covered = box_area(_intersection(boxes[i], boxes[others]))
        same |= self.is_fragment[others] & (covered > _COVERED * self.areas[others])
        same |= self.is_fragment[i] & (covered > _COVERED * self.areas[i])
        return same & (self.view[others] != self.view[i])


def merge_detections(
    found: ViewDetections, iou: float, union: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(kept, boxes_xyxy, scores): which detections stay, best first within a class, and their boxes and scores.

    The best of an object's detections stays, with the best of their scores; a fragment competes with half of its own. With
    `union` (non-maximum merging), a fragment that stays takes the box around all parts of its object; a box that no edge has
    cut stays as it is.
    """
    boxes, scores = found.boxes_xyxy.copy(), found.scores.copy()
    weight = np.where(found.is_fragment, _FRAGMENT_COUNTS, 1.0) * scores
    kept = []
    for label in np.unique(found.labels):
        members = np.flatnonzero(found.labels == label)
        members = members[np.argsort(-weight[members], kind="stable")]
        for best, parts in _objects(found, members, iou, chained=union):
            kept.append(best)
            every = np.r_[best, parts]
            scores[best] = found.scores[every].max()
            if union and found.is_fragment[best]:
                boxes[best] = np.r_[
                    found.boxes_xyxy[every, :2].min(axis=0), found.boxes_xyxy[every, 2:].max(axis=0)
                ]
    order = np.array(kept, dtype=np.int64)
    return order, boxes[order], scores[order]


def _objects(
    found: ViewDetections, members: np.ndarray, iou: float, chained: bool
) -> Iterator[tuple[int, np.ndarray]]:
    """(best detection, the others of its object) for each object of one class; `members` are best first. One row of the
    matrix of all pairs at a time: thousands of detections would not fit as a whole."""
    free = members
    while len(free):
        best, free = int(free[0]), free[1:]
        parts, reached = [], [best]
        while reached:
            same = found.mark_same_object(reached.pop(), free, iou)
            parts.append(free[same])
            # an object over three tiles: the middle fragment leads on to the last one
            reached += [
                int(i)
                for i in free[same]
                if chained and found.is_fragment[best] and found.is_fragment[i]
            ]
            free = free[~same]
        yield best, np.concatenate(parts)


def _intersection(a_xyxy: np.ndarray, b_xyxy: np.ndarray) -> np.ndarray:
    """Of each pair of boxes (they broadcast); its area is 0 where they do not meet."""
    return np.concatenate(
        [
            np.maximum(a_xyxy[..., :2], b_xyxy[..., :2]),
            np.minimum(a_xyxy[..., 2:], b_xyxy[..., 2:]),
        ],
        axis=-1,
    )
