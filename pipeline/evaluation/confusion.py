"""Which class was found as which."""

import numpy as np

from pipeline.evaluation.result import Confusion

IOU = 0.5  # of boxes; the field's convention


class BoxConfusion:
    """Objects and detections of one image, one to one: first pairs of one class, then the others, better overlaps first;
    what is left over goes to nothing. A crowd is no object, and who finds only a crowd of his class is left out."""

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
        """Of one image: truth's classes (G,), boxes (G, 4) and whether each is a crowd (G,); of what was found with at least
        `score`: classes (D,), boxes (D, 4)."""
        nothing = len(self.names)
        iou = _iou(found_xywh, boxes_xywh, crowd)  # (D, G)
        single = np.flatnonzero(~crowd)
        rows, columns = one_to_one(iou[:, single], found_classes[:, None] == classes[None, single])
        in_crowd = ((iou >= IOU) & crowd & (found_classes[:, None] == classes)).any(axis=1)
        np.add.at(self.counts, (classes[single[columns]], found_classes[rows]), 1)
        missed = np.delete(single, columns)
        self.counts[:nothing, nothing] += np.bincount(classes[missed], minlength=nothing)
        spare = np.setdiff1d(np.flatnonzero(~in_crowd), rows)
        self.counts[nothing, :nothing] += np.bincount(found_classes[spare], minlength=nothing)

    def result(self) -> Confusion:
        how = f"score from {self.score:g}, IoU of boxes from {IOU:g}"
        return Confusion((*self.names, "background"), self.counts, "objects", how)


def one_to_one(iou: np.ndarray, same: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(row, column) of pairs with at least IOU, greedily: `same` (D, G) first, then by overlap; each row and column once."""
    rows, columns = np.nonzero(iou >= IOU)
    order = np.lexsort((-iou[rows, columns], ~same[rows, columns]))
    free_rows, free_columns = np.ones(iou.shape[0], dtype=bool), np.ones(iou.shape[1], dtype=bool)
    pairs = []
    for row, column in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
        if free_rows[row] and free_columns[column]:
            free_rows[row] = free_columns[column] = False
            pairs.append((row, column))
    found = np.array(pairs, dtype=int).reshape(-1, 2)
    return found[:, 0], found[:, 1]


def _iou(found_xywh: np.ndarray, boxes_xywh: np.ndarray, crowd: np.ndarray) -> np.ndarray:
    """(D, G); beside a crowd, the share of the detection that lies in it, as COCO has it."""
    from pycocotools import mask as coco_mask

    if not len(found_xywh) or not len(boxes_xywh):
        return np.zeros((len(found_xywh), len(boxes_xywh)))
    iou: np.ndarray = coco_mask.iou(
        np.ascontiguousarray(found_xywh, dtype=np.float64),
        np.ascontiguousarray(boxes_xywh, dtype=np.float64),
        crowd.astype(np.uint8),
    )
    return iou
