"""How far an engine's results are from fp32's: measured on the run's own first images, and said."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torchvision.ops import box_iou

from pipeline.core.schema import BOX_COLUMNS
from pipeline.core.types import Shard
from pipeline.inference.predictor import Predictor
from pipeline.ops.boxes import read_boxes_xyxy

_SAME_OBJECT = 0.5  # IoU of boxes of one class


@dataclass(frozen=True)
class PrecisionAgreement:
    """Of two sets of rows about the same images. Differences are of the rows that both have."""

    precision: str  # of what is compared with fp32
    images: int
    rows_fp32: int
    rows_here: int
    rows_in_both: int  # same image and class; of boxes also IoU >= 0.5
    score_difference_mean: float
    score_difference_max: float
    box_difference_mean: float | None  # pixels of the original; None: rows without boxes
    box_difference_max: float | None
    cosine_min: float | None  # of embeddings; None: rows without

    def text(self) -> str:
        share = self.rows_in_both / self.rows_fp32 if self.rows_fp32 else 1.0
        said = f"{self.precision} beside fp32: {share:.1%} of fp32's {self.rows_fp32:,} rows on {self.images} images"
        said += " found again"
        said += f", {self.rows_here - self.rows_in_both:,} others"
        said += f"; scores differ by {self.score_difference_mean:.4f} (mean), {self.score_difference_max:.4f} (max)"
        if self.box_difference_mean is not None:
            said += (
                f"; boxes by {self.box_difference_mean:.2f} px, {self.box_difference_max:.2f} px"
            )
        if self.cosine_min is not None:
            said += f"; embeddings' least cosine {self.cosine_min:.5f}"
        return said

    def record(self) -> dict[str, Any]:
        return asdict(self)


def measure_agreement(here: Predictor, fp32: Predictor, shard: Shard) -> PrecisionAgreement:
    """Both look at all of the shard's inputs."""
    reference, rows = (pa.concat_tables(_rows(one, shard)) for one in (fp32, here))
    return compare_rows(reference, rows, len(shard), here.engine.precision)


def _rows(predictor: Predictor, shard: Shard) -> Iterator[pa.Table]:
    yield predictor.schema.empty_table()
    for _, batch in predictor.predict([shard]):
        yield predictor.make_tables(batch)[1]


def compare_rows(fp32: pa.Table, here: pa.Table, images: int, precision: str) -> PrecisionAgreement:
    """Row by row, the best of fp32 first; each row of `here` is the partner of one at most."""
    paired = list(match_rows(fp32, here))
    a, b = (np.array([pair[i] for pair in paired], dtype=np.int64) for i in (0, 1))
    score = np.abs(_floats(fp32, "score")[a] - _floats(here, "score")[b])
    box = (
        np.abs(read_boxes_xyxy(fp32)[a] - read_boxes_xyxy(here)[b])
        if set(BOX_COLUMNS) <= set(fp32.schema.names)
        else None
    )
    cosine = None
    if "embedding" in fp32.schema.names and paired:
        one, other = (np.stack(t["embedding"].to_pylist())[i] for t, i in ((fp32, a), (here, b)))
        cosine = float(
            (
                (one * other).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)
            ).min()
        )
    return PrecisionAgreement(
        precision=precision,
        images=images,
        rows_fp32=fp32.num_rows,
        rows_here=here.num_rows,
        rows_in_both=len(paired),
        score_difference_mean=float(score.mean()) if paired else 0.0,
        score_difference_max=float(score.max(initial=0.0)),
        box_difference_mean=None if box is None else float(box.mean()) if paired else 0.0,
        box_difference_max=None if box is None else float(box.max(initial=0.0)),
        cosine_min=cosine,
    )


def match_rows(fp32: pa.Table, here: pa.Table) -> Iterator[tuple[int, int]]:
    """(row of fp32, row of here) that mean the same: one image and class, of boxes also IoU >= 0.5."""
    kind_a, kind_b = (_groups(table) for table in (fp32, here))
    for kind, rows in kind_a.items():
        others = kind_b.get(kind, np.empty(0, dtype=np.int64))
        if not set(BOX_COLUMNS) <= set(fp32.schema.names):
            yield from zip(
                rows.tolist(), others.tolist(), strict=False
            )  # one of a class in an image
            continue
        boxes = (
            torch.from_numpy(read_boxes_xyxy(table)[i])
            for table, i in ((fp32, rows), (here, others))
        )
        iou = box_iou(*boxes).numpy()
        for i, row in enumerate(rows):
            if iou.shape[1] and iou[i].max() >= _SAME_OBJECT:
                partner = int(iou[i].argmax())
                iou[:, partner] = 0
                yield int(row), int(others[partner])


def _groups(table: pa.Table) -> dict[tuple[int, int], np.ndarray]:
    """(image_id, class_id) -> row numbers, best score first."""
    groups: dict[tuple[int, int], list[int]] = {}
    score = _floats(table, "score")
    for row in np.argsort(-score, kind="stable").tolist():
        key = (table["image_id"][row].as_py(), table["class_id"][row].as_py())
        groups.setdefault(key, []).append(row)
    return {key: np.array(rows, dtype=np.int64) for key, rows in groups.items()}


def _floats(table: pa.Table, column: str) -> np.ndarray:
    return table[column].to_numpy().astype(np.float64)
