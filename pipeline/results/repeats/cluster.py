"""Cluster boxes of one class by their place, to find what always stands there."""

from dataclasses import dataclass

import numpy as np

from pipeline.ops.boxes import paired_box_iou


@dataclass(frozen=True)
class BoxCluster:
    """`box_xyxy` is the median of its boxes, `members` are their rows, ascending."""

    box_xyxy: np.ndarray
    members: np.ndarray


def cluster_boxes(
    boxes_xyxy: np.ndarray, images: np.ndarray, least_iou: float, least_images: int
) -> list[BoxCluster]:
    """Find clusters of boxes (N, 4) of one camera and class, those of the most images first.

    A cluster has boxes in `least_images` images ((N,) numbers) or more. A box belongs to one
    cluster at most: it overlaps the cluster's own box by `least_iou` or more.

    Every box is tried as a centre, after the boxes of earlier clusters are removed. The median of
    the boxes that it gathers then gathers anew, so that the result does not depend on which box
    came first. Boxes are sorted by their left edge, because boxes that overlap enough are near each
    other there: a box is compared with its neighbours, not with all.
    """
    order = np.argsort(boxes_xyxy[:, 0], kind="stable")
    near = _Neighbours(boxes_xyxy[order].astype(np.float64), images[order], least_iou)
    found = []
    for candidate in np.flatnonzero(near.reach() >= least_images):
        if not near.free[candidate]:
            continue
        members = near.of(near.boxes[candidate])
        if near.count(members) < least_images:
            continue
        middle = np.median(near.boxes[members], axis=0)
        centred = near.of(middle)
        if near.count(centred) >= near.count(members):
            members = centred
        else:
            middle = near.boxes[candidate]
        near.free[members] = False
        found.append(BoxCluster(middle, np.sort(order[members])))
    return sorted(found, key=lambda place: -len(np.unique(images[place.members])))


class _Neighbours:
    """Boxes (N, 4) in the order of their left edges."""

    def __init__(self, boxes_xyxy: np.ndarray, images: np.ndarray, least_iou: float) -> None:
        self.boxes, self.images, self.least_iou = boxes_xyxy, images, least_iou
        self.left = np.ascontiguousarray(boxes_xyxy[:, 0])
        self.free = np.ones(len(boxes_xyxy), dtype=bool)  # not yet in a cluster

    def reach(self) -> np.ndarray:
        """Return (N,) an upper bound of the number of boxes in a cluster around each box.

        It counts the boxes whose upper left corners are near, in a grid, by sums over its cells.
        """
        corners, slack = self.boxes[:, :2], self._slack(self.boxes)
        n = min(1024, int(len(corners) ** 0.5) + 1)  # cells a side
        first = corners.min(axis=0, initial=np.inf)
        span = np.maximum(corners.max(axis=0, initial=-np.inf) - first, 1e-9)

        def cells(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            at = np.clip((points - first) / span * n, 0, n - 1).astype(np.int64)
            return at[:, 0], at[:, 1]

        sums = np.zeros((n + 1, n + 1), dtype=np.int64)  # sums over all cells above and left
        np.add.at(sums[1:, 1:], cells(corners), 1)
        sums = sums.cumsum(axis=0).cumsum(axis=1)
        (x, y), (x_end, y_end) = cells(corners - slack), cells(corners + slack)
        reach: np.ndarray = (
            sums[x_end + 1, y_end + 1] - sums[x, y_end + 1] - sums[x_end + 1, y] + sums[x, y]
        )
        return reach

    def of(self, box_xyxy: np.ndarray) -> np.ndarray:
        """Return the rows that are free and overlap the box enough."""
        slack = self._slack(box_xyxy[None])[0]
        first, last = np.searchsorted(
            self.left, [box_xyxy[0] - slack[0], np.nextafter(box_xyxy[0] + slack[0], np.inf)]
        )
        rows = np.arange(first, last)
        rows = rows[
            self.free[first:last] & (np.abs(self.boxes[first:last, 1] - box_xyxy[1]) <= slack[1])
        ]
        return rows[
            paired_box_iou(self.boxes[rows], np.broadcast_to(box_xyxy, (len(rows), 4)))
            >= self.least_iou
        ]

    def count(self, rows: np.ndarray) -> int:
        """Return in how many images these rows are."""
        return len(np.unique(self.images[rows]))

    def _slack(self, boxes_xyxy: np.ndarray) -> np.ndarray:
        """Return (N, 2) how far from these boxes' upper left corners another box's corner may be.

        The IoU of two boxes is at most the width they share by the width they span, which is longer
        by the distances of both edges.
        """
        sides = np.clip(boxes_xyxy[:, 2:] - boxes_xyxy[:, :2], 0, None)
        return sides * (1 - self.least_iou) / self.least_iou * (1 + 1e-9)
