"""Filters on prediction rows.

A filter works on an Arrow table of any size. The same code filters one batch while the model
runs, and all rows of a finished run afterwards.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa

from pipeline.core.errors import ConfigError, suggest_nearest
from pipeline.ops.boxes import box_area, keep_by_nms, rank_within_groups, read_boxes_xyxy

# Placeholders in COCO's list of 91 names, which are not classes that a user can select.
PLACEHOLDERS = frozenset({"__background__", "N/A"})


@dataclass(frozen=True)
class Filters:
    """The filters of a run, applied in this order: class and score, area, NMS, count.

    A finished run can be filtered again with stricter filters. The rows are the same as those of
    one pass with the strict filters, unless the first pass used NMS or a count.
    """

    min_scores: tuple[float, ...]  # lowest score by class id; infinity drops the class
    min_area: float | None = None  # smallest box, in square pixels of the upright original
    nms_iou: float | None = None  # class-agnostic NMS within an image
    max_detections: int | None = None  # best rows to keep per image

    @cached_property
    def _thresholds(self) -> np.ndarray:
        return np.asarray(self.min_scores, dtype=np.float32)

    def apply(self, rows: pa.Table) -> pa.Table:
        """Return the rows that pass.

        Args:
            rows: A table with `class_id` and `score`. The area and NMS filters also need the
                four box columns. NMS and the count also need `image_id`.
        """
        scores = _column(rows, "score")
        # Both sides are float32, so that a threshold of 0.3 keeps a score of float32(0.3).
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
    """Return the lowest score to keep, by class id; infinity drops the class.

    Class names are matched without regard to case. Several ids may share a name.

    Args:
        categories: The model's class names; index = class id.
        classes: The classes to keep; None keeps all.
        exclude: The classes to drop.
        min_score: One threshold, or thresholds by class name with `default` for the others.

    Raises:
        ConfigError: The model has no class of a given name.
    """
    per_class = dict(min_score) if isinstance(min_score, Mapping) else {"default": min_score}
    fallback = per_class.pop("default")
    wanted = _check_names(classes, categories, "classes") if classes is not None else None
    unwanted = _check_names(exclude or (), categories, "exclude")
    _check_names(per_class, categories, "min_score")
    named = {name.casefold(): value for name, value in per_class.items()}

    def threshold(name: str) -> float:
        name = name.casefold()
        if name in unwanted or (wanted is not None and name not in wanted):
            return float("inf")
        return named.get(name, fallback)

    return tuple(threshold(name) for name in categories)


def _check_names(
    names: Sequence[str] | Mapping[str, float], categories: Sequence[str], key: str
) -> set[str]:
    """Return the case-folded names. Raises ConfigError for one that is not in `categories`."""
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
