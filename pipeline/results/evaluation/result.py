"""The values that an evaluation returns."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

# None stands for a figure that is not defined, such as the AP of large objects if truth has none.
Metrics = Mapping[str, float | None]


@dataclass(frozen=True)
class ImageCounts:
    """Numbers of images, by how truth's images and the run's were paired."""

    truth: int  # images in truth; all of them except duplicates are evaluated
    duplicates: int  # images in truth that the run skipped as duplicates of other images
    failed: int  # images in truth without predictions, because they failed in the run
    not_in_run: int  # images in truth without predictions, because the run does not have them
    not_in_truth: int  # images of the run that truth does not have; they are not evaluated


@dataclass(frozen=True)
class Confusion:
    """A confusion matrix: `counts[t, p]` is the number of class t that was found as class p.

    The last name stands for "nothing". Its row counts false detections, and its column counts
    objects that were not found.
    """

    names: tuple[str, ...]
    counts: np.ndarray  # (C + 1, C + 1) int64
    unit: str  # what is counted: objects, images or pixels
    how: str = ""  # the rule by which objects and detections were paired, if there is one


@dataclass(frozen=True)
class Evaluation:
    """The figures of a run.

    `curves` and `confusion` are those of `kind`, the main kind of the task.
    """

    kind: str  # boxes, masks, keypoints, labels, regions
    figures: Mapping[str, Metrics]  # by kind, because instance segmentation has boxes and masks
    classes: Sequence[Mapping[str, Any]]  # a row for each kind and class
    confusion: Confusion
    images: ImageCounts
    settings: Mapping[str, Any]  # the settings of the measurement
    notes: tuple[str, ...] = ()  # sentences that a reader of the figures must know
    # (101, classes) precision at recall 0, 0.01 .. 1; NaN for a class without truth. The
    # threshold is 0.5 for kinds that have an IoU or OKS.
    curves: np.ndarray | None = field(default=None, repr=False)

    def rows(self) -> list[Mapping[str, Any]]:
        """Return the rows of `kind`, in the order of the columns of `curves`."""
        return [row for row in self.classes if row["kind"] == self.kind]


def mean_of_defined(values: np.ndarray) -> float | None:
    """Return the mean of the values that are not NaN; None if there are none."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else None


def nan_to_none(value: float) -> float | None:
    """Return the value as a float, or None for NaN."""
    return None if math.isnan(value) else float(value)
