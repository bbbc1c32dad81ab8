"""Filters on prediction rows.

A filter works on an Arrow table of any size. The same code filters one batch while the model
runs, and all rows of a finished run afterwards.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa

from pipeline.core.errors import ConfigError, suggest_nearest
from pipeline.core.name_matching import KnownNames, fold_text
from pipeline.ops.boxes import box_area, keep_by_nms, rank_within_groups, read_boxes_xyxy

log = logging.getLogger(__name__)

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
    min_score: float | Mapping[str, float] | None,
) -> tuple[float, ...]:
    """Return the lowest score to keep, by class id; infinity drops the class.

    Class names are matched by the rule of `core/name_matching.py`. Several ids may share a name.

    Args:
        categories: The model's class names; index = class id.
        classes: The classes to keep; None keeps all.
        exclude: The classes to drop.
        min_score: One threshold, or thresholds by class name with `default` for the others.
            None keeps every score.

    Raises:
        ConfigError: The model has no class of a given name, or several that could be meant.
    """
    per_class = dict(min_score) if isinstance(min_score, Mapping) else {"default": min_score or 0.0}
    fallback = per_class.pop("default")
    wanted = None if classes is None else set(find_class_names(classes, categories, "classes"))
    unwanted = set(find_class_names(exclude or (), categories, "exclude"))
    scores: dict[str, float] = {}
    for given, score in per_class.items():
        for name in find_class_names([given], categories, "min_score"):
            if scores.setdefault(name, score) != score:
                raise ConfigError(f"min_score: the class {name!r} has two scores. Expected one.")

    def threshold(name: str) -> float:
        if name in unwanted or (wanted is not None and name not in wanted):
            return float("inf")
        return scores.get(name, fallback)

    return tuple(threshold(name) for name in categories)


def find_class_names(names: Iterable[str], categories: Sequence[str], key: str) -> list[str]:
    """Return the model's spelling of each given class name.

    A name that no class has as it is written, and several have in another letter case, stands for
    all of these.

    Args:
        names: The class names that a user gave.
        categories: The model's class names.
        key: The name of the setting, for messages.

    Raises:
        ConfigError: The model has no class of a given name.
    """
    known = KnownNames(name for name in categories if name not in PLACEHOLDERS)
    found: list[str] = []
    for name in names:
        same = known.find(name)
        if not same:
            raise ConfigError(
                f"{key}: the model has no class {name!r}.{suggest_nearest(name, known.names)} "
                f"It has {len(known.names)} classes; dry_run=true lists them."
            )
        if len(same) > 1:
            log.warning("%s: %r stands for the classes %s.", key, name, " and ".join(same))
        found += same
    return found


def record_class_names(
    names: Sequence[str] | None, categories: Sequence[str], key: str
) -> list[str] | None:
    """Return class names as the record of a run has them: sorted, and without letter case.

    So [dog, Cat] and [cat, dog] are one filter. A name keeps its case if the model has another
    class that differs from it only in spelling.
    """
    if names is None:
        return None
    twins = list_twins(categories)
    found = find_class_names(names, categories, key)
    return sorted({name if name in twins else name.casefold() for name in found})


def list_twins(categories: Sequence[str]) -> set[str]:
    """Return the class names that differ from another one only in case or Unicode form."""
    names = [name for name in dict.fromkeys(categories) if name not in PLACEHOLDERS]
    counts = Counter(map(fold_text, names))
    return {name for name in names if counts[fold_text(name)] > 1}


def _column(rows: pa.Table, name: str) -> np.ndarray:
    return rows[name].to_numpy()
