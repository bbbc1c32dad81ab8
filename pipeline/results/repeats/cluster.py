"""Cluster boxes of one class by position, to find objects that never move."""

from dataclasses import dataclass

import numpy as np

from pipeline.ops.boxes import paired_box_iou


@dataclass(frozen=True)
class BoxCluster:
    """A cluster of boxes that overlap."""

    box_xyxy: np.ndarray  # (4,) median of the boxes, or the box tried as centre
    members: np.ndarray  # (M,) row numbers of the boxes, ascending


def cluster_boxes(
    boxes_xyxy: np.ndarray, images: np.ndarray, least_iou: float, least_images: int
) -> list[BoxCluster]:
    """Find clusters among the boxes of one camera and class.

    Every box is tried as the centre of a cluster, unless it already belongs to one. The free boxes
    that overlap the centre are gathered. Then the boxes that overlap the median of these boxes are
    gathered, so that the result depends less on which box was tried first.

    Boxes are sorted by their left edge. Two boxes that overlap enough have left edges that are near
    each other, so a box is compared only with its neighbours in that order.

    Args:
        boxes_xyxy: (N, 4) boxes.
        images: (N,) number of the image of each box.
        least_iou: least IoU of a box with the box of its cluster.
        least_images: least number of different images in a cluster.

    Returns:
        The clusters, sorted by their number of images in descending order. A box belongs to at most
        one of them.
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
    """Index of boxes (N, 4), sorted by their left edges, for finding boxes that overlap."""

    def __init__(self, boxes_xyxy: np.ndarray, images: np.ndarray, least_iou: float) -> None:
        self.boxes, self.images, self.least_iou = boxes_xyxy, images, least_iou
        self.left = np.ascontiguousarray(boxes_xyxy[:, 0])
        self.free = np.ones(len(boxes_xyxy), dtype=bool)  # not yet in a cluster

    def reach(self) -> np.ndarray:
        """Return (N,) upper bounds of the number of boxes in a cluster around each box.

        The bound is the number of boxes whose upper left corners lie in the grid cells near the
        corner of the box. A summed-area table of the grid makes each count fast.
        """
        corners, slack = self.boxes[:, :2], self._slack(self.boxes)
        n = min(1024, int(len(corners) ** 0.5) + 1)  # number of cells on each side of the grid
        first = corners.min(axis=0, initial=np.inf)
        span = np.maximum(corners.max(axis=0, initial=-np.inf) - first, 1e-9)

        def cells(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            at = np.clip((points - first) / span * n, 0, n - 1).astype(np.int64)
            return at[:, 0], at[:, 1]

        sums = np.zeros((n + 1, n + 1), dtype=np.int64)  # summed-area table
        np.add.at(sums[1:, 1:], cells(corners), 1)
        sums = sums.cumsum(axis=0).cumsum(axis=1)
        (x, y), (x_end, y_end) = cells(corners - slack), cells(corners + slack)
        reach: np.ndarray = (
            sums[x_end + 1, y_end + 1] - sums[x, y_end + 1] - sums[x_end + 1, y] + sums[x, y]
        )
        return reach

    def of(self, box_xyxy: np.ndarray) -> np.ndarray:
        """Return the rows of boxes that are in no cluster yet and overlap the box enough."""
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
        """Return the number of different images of these rows."""
        return len(np.unique(self.images[rows]))

    def _slack(self, boxes_xyxy: np.ndarray) -> np.ndarray:
        """Return (N, 2) the largest distances in x and y between upper left corners of a pair.

        A box whose corner is farther away cannot reach `least_iou`: the IoU of two boxes is at most
        the width of their intersection divided by the width of their common bounding box. The
        same is true of heights.
        """
        sides = np.clip(boxes_xyxy[:, 2:] - boxes_xyxy[:, :2], 0, None)
        return sides * (1 - self.least_iou) / self.least_iou * (1 + 1e-9)
