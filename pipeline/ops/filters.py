"""Which prediction rows are kept. Works on an Arrow table of any size, so the same code filters a batch while the model
runs and a finished run of a million rows afterwards."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa

from pipeline.core.errors import ConfigError, suggest_nearest
from pipeline.ops.boxes import box_area, keep_by_nms, rank_within_groups, read_boxes_xyxy

# Placeholders in COCO's list of 91; not classes a user can ask for.
PLACEHOLDERS = frozenset({"__background__", "N/A"})


@dataclass(frozen=True)
class Filters:
    """`min_scores[class_id]` is that class's threshold; infinity where the class is not wanted.

    Order: class and score, area, class-agnostic NMS, count. So filtering twice, first loosely and then strictly, gives
    what filtering once strictly gives, as long as the first pass used neither NMS nor a count.
    """

    min_scores: tuple[float, ...]
    min_area: float | None = None
    nms_iou: float | None = None
    max_detections: int | None = None

    @cached_property
    def _thresholds(self) -> np.ndarray:
        return np.asarray(self.min_scores, dtype=np.float32)

    def apply(self, rows: pa.Table) -> pa.Table:
        """`rows` has class_id and score; image_id and x_min .. y_max where area, NMS or count are asked for."""
        scores = _column(rows, "score")
        # float32 on both sides: 0.3 as the user wrote it must keep a score of float32(0.3)
        keep = scores >= self._thresholds[_column(rows, "class_id")]
        rows = rows.filter(pa.array(keep))
        if self.min_area is not None:
            rows = rows.filter(pa.array(box_area(read_boxes_xyxy(rows)) >= self.min_area))
        if self.nms_iou is not None:
            images = _column(rows, "image_id")
            rows = rows.filter(
                pa.array(
                    keep_by_nms(read_boxes_xyxy(rows), _column(rows, "score"), images, self.nms_iou)
                )
            )
        if self.max_detections is not None:
            ranks = rank_within_groups(_column(rows, "image_id"), _column(rows, "score"))
            rows = rows.filter(pa.array(ranks < self.max_detections))
        return rows


def make_score_thresholds(
    categories: Sequence[str],
    classes: Sequence[str] | None,
    exclude: Sequence[str] | None,
    min_score: float | Mapping[str, float],
) -> tuple[float, ...]:
    """One threshold per class id; a mapping `min_score` has `default` for the classes it does not name. Names are matched
    without regard to case; several ids may share a name.

    Raises ConfigError for a name the model does not have.
    """
    per_class = dict(min_score) if isinstance(min_score, Mapping) else {"default": min_score}
    fallback = per_class.pop("default")
    wanted = _known(classes, categories, "classes") if classes is not None else None
    unwanted = _known(exclude or (), categories, "exclude")
    _known(per_class, categories, "min_score")
    named = {name.casefold(): value for name, value in per_class.items()}

    def threshold(name: str) -> float:
        name = name.casefold()
        if name in unwanted or (wanted is not None and name not in wanted):
            return float("inf")
        return named.get(name, fallback)

    return tuple(threshold(name) for name in categories)


def _known(
    names: Sequence[str] | Mapping[str, float], categories: Sequence[str], key: str
) -> set[str]:
    choices = [name for name in categories if name not in PLACEHOLDERS]
    known = {name.casefold() for name in choices}
    for name in names:
        if name.casefold() not in known:
            raise ConfigError(
                f"{key}: the model has no class {name!r}.{suggest_nearest(name, choices)} "
                f"It has {len(set(choices))} classes; dry_run=true lists them."
            )
    return {name.casefold() for name in names}


def _column(rows: pa.Table, name: str) -> np.ndarray:
    return rows[name].to_numpy()
