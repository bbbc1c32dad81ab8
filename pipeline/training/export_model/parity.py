"""Compare the rows of the exported program and of the eager model in fp32, on real images."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.core.schema import BOX_COLUMNS
from pipeline.core.types import Shard
from pipeline.inference.precision_check import compare_rows, match_rows
from pipeline.inference.predictor import Predictor
from pipeline.ops.boxes import read_boxes_xyxy
from pipeline.ops.masks import make_label_map
from pipeline.training.export_model.shape_probes import MAX_LOGIT_DIFFERENCE

MARGIN = 1e-3  # rounding may move a score across a threshold that is nearer than this
_MOST_PX = 1.0
# Share of the kept boxes. Of two boxes that overlap and score alike, either may suppress the other.
_MOST_MOVED = 0.01
_MOST_PIXELS = 1e-3  # share of all pixels; a smaller region may appear or disappear


@dataclass(frozen=True)
class ExportParity:
    """Differences between the rows of a program and those of the eager model.

    Differences in scores and boxes are measured on the rows that both have.
    """

    images: int
    failed_images: int  # images that only one of the two could process
    rows_eager: int
    rows_exported: int
    rows_kept: int
    rows_lost: int
    rows_added: int
    # Lost and added rows that rounding explains: within `MARGIN` of a threshold or of the lowest
    # score of a full list, or tiny regions.
    at_the_edge: int
    score_difference_mean: float
    score_difference_max: float
    box_difference_max: float | None  # pixels of the original; None: rows without boxes
    boxes_moved: int  # kept boxes that moved by more than a pixel
    pixels_differing: float | None  # share of pixels whose class differs; None: rows without masks

    @property
    def equal(self) -> bool:
        return not self.faults()

    @property
    def shows_nothing(self) -> bool:
        return self.rows_eager == self.rows_exported == 0

    def faults(self) -> list[str]:
        """Return the reasons why the program is not equal."""
        unexplained = self.rows_lost + self.rows_added - self.at_the_edge
        score, pixels = self.score_difference_max, self.pixels_differing or 0
        faults = []
        if self.failed_images > 0:
            faults.append(f"{self.failed_images} images that one of the two cannot take")
        if unexplained > 0:
            faults.append(f"{unexplained} rows lost or added whose scores are not near a threshold")
        if score > MARGIN:
            faults.append(f"scores {score:.4g} apart, more than {MARGIN:g}")
        if self.boxes_moved > _MOST_MOVED * self.rows_kept:
            faults.append(f"{self.boxes_moved} boxes moved by more than a pixel")
        if pixels > _MOST_PIXELS:
            faults.append(f"{pixels:.2%} of the pixels in another class")
        return faults

    def describe(self) -> dict[str, str]:
        """Return headings and values for people."""
        edge = f", {self.at_the_edge} of these at a threshold" if self.at_the_edge else ""
        rows = {
            "rows": f"{self.rows_kept} of {self.rows_eager} kept, {self.rows_lost} lost, "
            f"{self.rows_added} added{edge}",
            "scores": f"{self.score_difference_mean:.2g} apart (mean), "
            f"{self.score_difference_max:.2g} (largest)",
        }
        if self.box_difference_max is not None:
            rows["boxes"] = f"{self.box_difference_max:.3g} px apart (largest)"
        if self.pixels_differing is not None:
            rows["pixels"] = f"{self.pixels_differing:.3%} of another class"
        return rows

    def record(self) -> dict[str, Any]:
        return asdict(self) | {"equal": self.equal}


@dataclass(frozen=True)
class RowLimits:
    """Limits on rows: the `least` score by class id, and the `most` rows of an image or None."""

    least: Sequence[float]
    most: int | None


def measure_parity(
    exported: Predictor, eager: Predictor, shard: Shard, limits: RowLimits
) -> ExportParity:
    """Run both predictors on all inputs of the shard and compare their rows."""
    (images, expected), (others, found) = (
        _predict_shard(predictor, shard) for predictor in (eager, exported)
    )
    return compute_parity(images, expected, others, found, limits)


def compute_parity(
    images: pa.Table, expected: pa.Table, others: pa.Table, found: pa.Table, limits: RowLimits
) -> ExportParity:
    """Compare the rows of the eager model and of the program.

    Args:
        images: The eager model's rows of `images`.
        expected: The eager model's rows of `predictions`.
        others: The program's rows of `images`.
        found: The program's rows of `predictions`.
        limits: Limits on rows, near which a row may be lost by rounding.
    """
    agreement = compare_rows(expected, found, len(images), "fp32")
    a, b = np.array(list(match_rows(expected, found)), dtype=np.int64).reshape(-1, 2).T
    alone = [
        (table, np.setdiff1d(np.arange(len(table)), rows))
        for table, rows in ((expected, a), (found, b))
    ]
    moved = 0
    if set(BOX_COLUMNS) <= set(expected.schema.names):
        moved = int(
            (
                np.abs(read_boxes_xyxy(expected)[a] - read_boxes_xyxy(found)[b]).max(
                    axis=1, initial=0
                )
                > _MOST_PX
            ).sum()
        )
    return ExportParity(
        images=len(images),
        failed_images=_count_status_differences(images, others),
        rows_eager=len(expected),
        rows_exported=len(found),
        rows_kept=len(a),
        rows_lost=len(alone[0][1]),
        rows_added=len(alone[1][1]),
        at_the_edge=sum(
            int(_is_near_threshold(table, rows, limits).sum()) for table, rows in alone
        ),
        score_difference_mean=agreement.score_difference_mean,
        score_difference_max=agreement.score_difference_max,
        box_difference_max=agreement.box_difference_max,
        boxes_moved=moved,
        pixels_differing=_share_of_differing_pixels(images, expected, found)
        if "mask_rle" in expected.schema.names
        else None,
    )


def check_raw_difference(difference: float) -> list[str]:
    """Return a fault if the logits differ too much, even if the rows are equal."""
    return (
        [f"raw outputs {difference:.2g} of the largest apart"]
        if difference > MAX_LOGIT_DIFFERENCE
        else []
    )


def _predict_shard(predictor: Predictor, shard: Shard) -> tuple[pa.Table, pa.Table]:
    """Return all rows of `images`, sorted by image_id, and of `predictions`."""
    tables = [predictor.make_tables(batch) for _, batch in predictor.predict([shard])]
    images = pa.concat_tables([image_rows for image_rows, _ in tables]).sort_by("image_id")
    return images, pa.concat_tables([predictor.schema.empty_table(), *(rows for _, rows in tables)])


def _count_status_differences(images: pa.Table, others: pa.Table) -> int:
    pairs_of_status = zip(images["status"].to_pylist(), others["status"].to_pylist(), strict=True)
    return sum(status != other for status, other in pairs_of_status)


def _is_near_threshold(table: pa.Table, rows: np.ndarray, limits: RowLimits) -> np.ndarray:
    """Return a mask of the rows that are so near a threshold that rounding alone may remove them.

    Returns:
        (len(rows),) bool.
    """
    score, image = (table[name].to_numpy() for name in ("score", "image_id"))
    least = np.asarray(limits.least)[table["class_id"].to_numpy()[rows]]
    near: np.ndarray = score[rows] <= least + MARGIN
    if limits.most is not None:
        last, count = _lowest_scores(image, score)
        full = np.array([count[i] >= limits.most for i in image[rows].tolist()], dtype=bool)
        near |= full & (score[rows] <= np.array([last[i] for i in image[rows].tolist()]) + MARGIN)
    if "share" in table.schema.names:
        near |= table["share"].to_numpy()[rows] <= _MOST_PIXELS
    return near


def _lowest_scores(
    image: np.ndarray, score: np.ndarray
) -> tuple[Mapping[int, float], Mapping[int, int]]:
    """Return the lowest score and the number of rows of each image, by image_id."""
    last: dict[int, float] = {}
    count: dict[int, int] = {}
    for image_id, value in zip(image.tolist(), score.tolist(), strict=True):
        last[image_id] = min(value, last.get(image_id, value))
        count[image_id] = count.get(image_id, 0) + 1
    return last, count


def _share_of_differing_pixels(images: pa.Table, expected: pa.Table, found: pa.Table) -> float:
    """Return the share of all pixels whose class differs."""
    differing = compared = 0
    for row in images.select(["image_id", "height", "width"]).to_pylist():
        if row["height"] is None:
            continue
        size_hw = (row["height"], row["width"])
        maps = [
            make_label_map(_select_image(table, row["image_id"]), size_hw)
            for table in (expected, found)
        ]
        differing += int((maps[0] != maps[1]).sum())
        compared += maps[0].size
    return differing / max(1, compared)


def _select_image(table: pa.Table, image_id: int) -> pa.Table:
    return table.filter(pa.array(table["image_id"].to_numpy() == image_id))
