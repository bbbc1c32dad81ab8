"""The values that an evaluation returns."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Metrics = Mapping[
    str, float | None
]  # None: not defined, such as the AP of large objects where truth has none


@dataclass(frozen=True)
class ImageCounts:
    """How truth's images and the run's were paired."""

    truth: int  # in truth: all but duplicates are evaluated
    duplicates: int  # of those, not looked at in the run because another image is the same picture
    failed: int  # of those, without predictions because the run could not use them
    not_in_run: int  # of those, without predictions because the run does not have them
    not_in_truth: int  # of the run, left out


@dataclass(frozen=True)
class Confusion:
    """`counts[t, p]` is how many of class t were found as class p.

    The last of `names` stands for nothing. Its row counts what was found where truth has nothing,
    its column what was not found.
    """

    names: tuple[str, ...]
    counts: np.ndarray  # (C + 1, C + 1) int64
    unit: str  # objects, images, pixels
    how: str = ""  # they were paired, where that needs a rule


@dataclass(frozen=True)
class Evaluation:
    """The figures of a run. `curves` and `confusion` belong to `kind`, which the task is about."""

    kind: str  # boxes, masks, keypoints, labels, regions
    figures: Mapping[str, Metrics]  # by kind: an instance segmentation has boxes and masks
    classes: Sequence[Mapping[str, Any]]  # a row for each kind and class
    confusion: Confusion
    images: ImageCounts
    settings: Mapping[str, Any]  # how it was measured
    notes: tuple[str, ...] = ()  # what a reader of the figures must know, for people
    # (101, classes) precision at recall 0, 0.01 .. 1; NaN for a class without truth. At IoU 0.5
    # for kinds that have an IoU.
    curves: np.ndarray | None = field(default=None, repr=False)

    def rows(self) -> list[Mapping[str, Any]]:
        """Return the classes of `kind`, in the order of `curves`."""
        return [row for row in self.classes if row["kind"] == self.kind]


def mean_of_defined(values: np.ndarray) -> float | None:
    """Return the mean of the values that are not NaN; None if there are none."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else None


def nan_to_none(value: float) -> float | None:
    """Return the value as a float, or None for NaN."""
    return None if math.isnan(value) else float(value)
