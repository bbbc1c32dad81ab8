"""Count how often objects of each class were detected as each class, for boxes."""

import numpy as np

from pipeline.ops.boxes import match_one_to_one
from pipeline.results.evaluation.result import Confusion

IOU = 0.5  # least IoU of an object and a detection that are paired; the usual convention


class BoxConfusion:
    """Confusion matrix of boxes, which pairs the objects and detections of each image one to one.

    Pairs of equal class are chosen first, then pairs of different classes. Within each group, pairs
    with a higher IoU are chosen first. Objects and detections without a pair are counted against
    the background. A crowd does not count as an object. A detection that overlaps only a crowd of
    its class is not counted.
    """

    def __init__(self, names: tuple[str, ...], score: float) -> None:
        self.names, self.score = names, score
        self.counts = np.zeros((len(names) + 1, len(names) + 1), np.int64)

    def add(
        self,
        classes: np.ndarray,
        boxes_xywh: np.ndarray,
        crowd: np.ndarray,
        found_classes: np.ndarray,
        found_xywh: np.ndarray,
    ) -> None:
        """Count one image.

        Args:
            classes: (G,) classes of truth's objects.
            boxes_xywh: (G, 4) boxes of truth's objects.
            crowd: (G,) bool, whether the object is a crowd.
            found_classes: (D,) classes of the detections whose score is at least `score`.
            found_xywh: (D, 4) boxes of the same detections.
        """
        nothing = len(self.names)
        iou = _iou(found_xywh, boxes_xywh, crowd)  # (D, G)
        single = np.flatnonzero(~crowd)
        rows, columns = _pairs(iou[:, single], found_classes[:, None] == classes[None, single])
        in_crowd = ((iou >= IOU) & crowd & (found_classes[:, None] == classes)).any(axis=1)
        np.add.at(self.counts, (classes[single[columns]], found_classes[rows]), 1)
        missed = np.delete(single, columns)
        self.counts[:nothing, nothing] += np.bincount(classes[missed], minlength=nothing)
        spare = np.setdiff1d(np.flatnonzero(~in_crowd), rows)
        self.counts[nothing, :nothing] += np.bincount(found_classes[spare], minlength=nothing)

    def result(self) -> Confusion:
        """Return the counts of all images that were added."""
        how = f"score from {self.score:g}, IoU of boxes from {IOU:g}"
        return Confusion((*self.names, "background"), self.counts, "objects", how)


def _pairs(iou: np.ndarray, same: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (rows, columns) of pairs whose IoU is at least IOU. No row or column repeats.

    Args:
        iou: (D, G).
        same: (D, G) bool, whether the classes are equal. Such pairs are chosen first, then pairs
            with a higher IoU.
    """
    rows, columns = np.nonzero(iou >= IOU)
    order = np.lexsort((-iou[rows, columns], ~same[rows, columns]))
    order = order[match_one_to_one(rows[order], columns[order])]
    return rows[order], columns[order]


def _iou(found_xywh: np.ndarray, boxes_xywh: np.ndarray, crowd: np.ndarray) -> np.ndarray:
    """Return the IoU (D, G). For a crowd, it is the share of the detection inside, as in COCO."""
    from pycocotools import mask as coco_mask

    if not len(found_xywh) or not len(boxes_xywh):
        return np.zeros((len(found_xywh), len(boxes_xywh)))
    iou: np.ndarray = coco_mask.iou(
        np.ascontiguousarray(found_xywh, dtype=np.float64),
        np.ascontiguousarray(boxes_xywh, dtype=np.float64),
        crowd.astype(np.uint8),
    )
    return iou
