"""Measure how far an engine's results are from those of fp32.

A run with an engine that is not exact does this on its first images, and reports the differences.
"""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torchvision.ops import box_iou

from pipeline.core.schema import BOX_COLUMNS
from pipeline.core.types import Shard
from pipeline.inference.predictor import Predictor
from pipeline.ops.boxes import match_one_to_one, read_boxes_xyxy

_SAME_OBJECT = 0.5  # IoU of boxes of one class


@dataclass(frozen=True)
class PrecisionAgreement:
    """Differences between the rows of an engine and the fp32 rows of the same images.

    Differences are taken over the rows that both have.
    """

    precision: str  # of the engine
    images: int
    rows_fp32: int
    rows_here: int  # of the engine
    rows_in_both: int  # same image and class, and for boxes IoU >= 0.5
    score_difference_mean: float
    score_difference_max: float
    box_difference_mean: float | None  # pixels of the original; None: rows without boxes
    box_difference_max: float | None
    cosine_min: float | None  # of embeddings; None: rows without embeddings

    def describe(self) -> str:
        """Return one line for the log and the summary."""
        share = self.rows_in_both / self.rows_fp32 if self.rows_fp32 else 1.0
        parts = [
            f"{self.precision} beside fp32: {share:.1%} of fp32's {self.rows_fp32:,} rows on "
            f"{self.images} images found again, {self.rows_here - self.rows_in_both:,} others",
            f"scores differ by {self.score_difference_mean:.4f} (mean), "
            f"{self.score_difference_max:.4f} (max)",
        ]
        if self.box_difference_mean is not None:
            parts.append(
                f"boxes by {self.box_difference_mean:.2f} px, {self.box_difference_max:.2f} px"
            )
        if self.cosine_min is not None:
            parts.append(f"embeddings' least cosine {self.cosine_min:.5f}")
        return "; ".join(parts)

    def to_record(self) -> dict[str, Any]:
        """Return the fields for agreement.json."""
        return asdict(self)


def measure_agreement(engine: Predictor, fp32: Predictor, shard: Shard) -> PrecisionAgreement:
    """Run both predictors on all inputs of a shard and compare their rows."""
    fp32_rows, engine_rows = (
        pa.concat_tables(_predict_rows(predictor, shard)) for predictor in (fp32, engine)
    )
    return compare_rows(fp32_rows, engine_rows, len(shard), engine.engine.precision)


def _predict_rows(predictor: Predictor, shard: Shard) -> Iterator[pa.Table]:
    yield predictor.schema.empty_table()
    with closing(predictor.predict([shard])) as outcomes:
        for _, finished in outcomes:
            yield predictor.make_tables(finished)[1]


def compare_rows(fp32: pa.Table, here: pa.Table, images: int, precision: str) -> PrecisionAgreement:
    """Match the rows of two tables and measure the differences of matched rows.

    Args:
        fp32: prediction rows of the reference.
        here: prediction rows of the engine.
        images: the number of images that both have looked at.
        precision: of the engine.
    """
    matches = list(match_rows(fp32, here))
    in_fp32, in_here = (np.array([match[i] for match in matches], dtype=np.int64) for i in (0, 1))
    score = np.abs(_floats(fp32, "score")[in_fp32] - _floats(here, "score")[in_here])
    box = None
    if set(BOX_COLUMNS) <= set(fp32.schema.names):
        box = np.abs(read_boxes_xyxy(fp32)[in_fp32] - read_boxes_xyxy(here)[in_here])
    cosine = None
    if "embedding" in fp32.schema.names and matches:
        cosine = _smallest_cosine(
            np.stack(fp32["embedding"].to_pylist())[in_fp32],
            np.stack(here["embedding"].to_pylist())[in_here],
        )
    return PrecisionAgreement(
        precision=precision,
        images=images,
        rows_fp32=fp32.num_rows,
        rows_here=here.num_rows,
        rows_in_both=len(matches),
        score_difference_mean=float(score.mean()) if matches else 0.0,
        score_difference_max=float(score.max(initial=0.0)),
        box_difference_mean=None if box is None else float(box.mean()) if matches else 0.0,
        box_difference_max=None if box is None else float(box.max(initial=0.0)),
        cosine_min=cosine,
    )


def _smallest_cosine(first: np.ndarray, second: np.ndarray) -> float:
    """Return the smallest cosine between matched vectors, (N, D) each."""
    norms = np.linalg.norm(first, axis=1), np.linalg.norm(second, axis=1)
    return float(((first * second).sum(1) / norms[0] / norms[1]).min())


def match_rows(fp32: pa.Table, here: pa.Table) -> Iterator[tuple[int, int]]:
    """Yield pairs (row of fp32, row of here) that describe the same thing.

    Both rows are of one image and class. Boxes also have an IoU of at least 0.5. The best fp32 rows
    choose their partner first, and each row is in one pair at most.
    """
    has_boxes = set(BOX_COLUMNS) <= set(fp32.schema.names)
    if has_boxes:
        boxes, other_boxes = read_boxes_xyxy(fp32), read_boxes_xyxy(here)
    groups = _group_rows(here)
    for image_and_class, rows in _group_rows(fp32).items():
        others = groups.get(image_and_class, np.empty(0, dtype=np.int64))
        if has_boxes:
            i, j = _match_boxes(boxes[rows], other_boxes[others])
            yield from zip(rows[i].tolist(), others[j].tolist(), strict=True)
        else:  # an image has one row of a class
            yield from zip(rows.tolist(), others.tolist(), strict=False)


def _match_boxes(boxes: np.ndarray, other_boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Match each box (N, 4), in order, with the unmatched box of (M, 4) that overlaps it most."""
    iou = box_iou(torch.from_numpy(boxes), torch.from_numpy(other_boxes)).numpy()
    i, j = np.nonzero(iou >= _SAME_OBJECT)
    order = np.lexsort((-iou[i, j], i))
    i, j = i[order], j[order]
    kept = match_one_to_one(i, j)
    return i[kept], j[kept]


def _group_rows(table: pa.Table) -> dict[tuple[int, int], np.ndarray]:
    """Group row numbers by (image_id, class_id), best score first."""
    groups: dict[tuple[int, int], list[int]] = {}
    order = np.argsort(-_floats(table, "score"), kind="stable").tolist()
    image_ids, class_ids = table["image_id"].to_pylist(), table["class_id"].to_pylist()
    for row in order:
        groups.setdefault((image_ids[row], class_ids[row]), []).append(row)
    return {key: np.array(rows, dtype=np.int64) for key, rows in groups.items()}


def _floats(table: pa.Table, column: str) -> np.ndarray:
    return table[column].to_numpy().astype(np.float64)
