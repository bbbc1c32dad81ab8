"""Match corresponding rows of two runs: boxes, regions, or classes of whole images."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core.schema import BOX_COLUMNS
from pipeline.core.task_roles import Content
from pipeline.ops.boxes import match_one_to_one, read_boxes_xyxy
from pipeline.results.comparison.aligned_reader import RunTables
from pipeline.results.comparison.overlapping_pairs import find_overlapping_pairs

_MASK = Content.MASKS.columns
(_EMBEDDING,) = Content.EMBEDDINGS.columns


@dataclass(frozen=True)
class ComparedRows:
    """The rows of one run that take part in a comparison."""

    table: pa.Table
    at: np.ndarray  # (P,) ascending: the image's position in the window
    classes: np.ndarray  # (P,) positions in the list of class names that both runs share
    scores: np.ndarray  # (P,) float64


@dataclass(frozen=True)
class RowPairs:
    """Pairs of corresponding rows. NaN stands for a value that was not measured."""

    before: np.ndarray  # (M,) row numbers in the first run
    after: np.ndarray  # (M,) row numbers in the second run
    iou: np.ndarray  # (M,) IoU of the boxes or regions
    box_shift: np.ndarray  # (M,) pixels, the shift of the coordinate that moved most
    embedding_distance: np.ndarray  # (M,) cosine distance: 0 for equal, 2 for opposite directions


class RowMatcher(Protocol):
    """Rule by which the rows of two runs are matched. The task declares which one applies."""

    columns: Sequence[str]  # the columns of predictions that the matcher reads
    first_only: bool  # whether only the best row of each image is compared

    def match(self, before: ComparedRows, after: ComparedRows) -> RowPairs:
        """Pair each row of one run with at most one row of the other."""
        ...


class BoxMatcher:
    """Greedy one-to-one matcher of boxes.

    Pairs of boxes with equal class are chosen first, then pairs with a higher IoU, then pairs with
    nearer scores. Boxes whose IoU is less than `least_iou` are different objects.
    """

    columns: Sequence[str] = BOX_COLUMNS
    first_only = False

    def __init__(self, least_iou: float) -> None:
        self.least_iou = least_iou

    def match(self, before: ComparedRows, after: ComparedRows) -> RowPairs:
        boxes_a, boxes_b = read_boxes_xyxy(before.table), read_boxes_xyxy(after.table)
        a, b, iou = find_overlapping_pairs(boxes_a, before.at, boxes_b, after.at, self.least_iou)
        another = before.classes[a] != after.classes[b]
        order = np.lexsort((b, a, np.abs(before.scores[a] - after.scores[b]), -iou, another))
        order = order[match_one_to_one(a[order], b[order])]
        a, b = a[order], b[order]
        return RowPairs(
            a, b, iou[order], np.abs(boxes_a[a] - boxes_b[b]).max(axis=1, initial=0), _unknown(a)
        )


class MaskMatcher:
    """Matcher of regions by class. An image has at most one region of each class."""

    columns: Sequence[str] = _MASK
    first_only = False

    def match(self, before: ComparedRows, after: ComparedRows) -> RowPairs:
        n_classes = 1 + max(rows.classes.max(initial=0) for rows in (before, after))
        _, a, b = np.intersect1d(
            *(rows.at * n_classes + rows.classes for rows in (before, after)), return_indices=True
        )
        return RowPairs(
            a,
            b,
            measure_mask_iou(before.table.take(a), after.table.take(b)),
            _unknown(a),
            _unknown(a),
        )


class LabelMatcher:
    """Matcher of the best class of each image. Lower ranks are not compared."""

    first_only = True

    def __init__(self, embeddings: bool) -> None:
        self.columns: Sequence[str] = (_EMBEDDING,) if embeddings else ()

    def match(self, before: ComparedRows, after: ComparedRows) -> RowPairs:
        _, a, b = np.intersect1d(before.at, after.at, return_indices=True)
        distance = (
            measure_cosine_distance(before.table.take(a), after.table.take(b))
            if self.columns
            else _unknown(a)
        )
        return RowPairs(a, b, _unknown(a), _unknown(a), distance)


def select_rows(
    side: RunTables, matcher: RowMatcher, names: pa.Array, images: np.ndarray
) -> ComparedRows:
    """Select the rows of one run that the matcher compares.

    Args:
        names: class names. Their positions become `ComparedRows.classes`.
        images: (N,) bool, whether the rows of each image of the window are compared.
    """
    keep = images[side.at]
    if matcher.first_only:
        keep &= np.diff(side.at, prepend=-1) > 0
    table, at = side.predictions.filter(pa.array(keep)), side.at[keep]
    classes = pc.index_in(table["class_name"].cast(pa.string()), value_set=names)
    return ComparedRows(
        table, at, classes.to_numpy().astype(np.int64), table["score"].to_numpy().astype(np.float64)
    )


def measure_mask_iou(before: pa.Table, after: pa.Table) -> np.ndarray:
    """Return (N,) IoU of the masks of two tables, row by row; 0 if the image sizes differ."""
    from pycocotools import mask as coco_mask

    def masks(table: pa.Table) -> list[dict]:
        rows = zip(*(table[name].to_pylist() for name in _MASK), strict=True)
        return [
            {"size": [height, width], "counts": counts.encode("ascii")}
            for counts, height, width in rows
        ]

    pairs = zip(masks(before), masks(after), strict=True)
    return np.array(
        [coco_mask.iou([a], [b], [0])[0, 0] if a["size"] == b["size"] else 0.0 for a, b in pairs],
        float,
    )


def measure_cosine_distance(before: pa.Table, after: pa.Table) -> np.ndarray:
    """Return (N,) cosine distances of the vectors of two tables, row by row.

    Raises:
        ValueError: the vectors have different lengths.
    """
    a, b = (
        np.stack(table[_EMBEDDING].to_numpy()).astype(np.float64)
        if len(table)
        else np.zeros((0, 1))
        for table in (before, after)
    )
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    cosine = np.divide((a * b).sum(axis=1), lengths, out=np.zeros(len(a)), where=lengths > 0)
    return np.where((a == b).all(axis=1), 0.0, 1.0 - cosine)


def _unknown(rows: np.ndarray) -> np.ndarray:
    """Return NaN for each row."""
    return np.full(len(rows), np.nan)
