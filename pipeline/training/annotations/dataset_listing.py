"""Annotated images as their data set lists them, before anything is checked, and the list of what is wrong with them."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from pipeline.core.errors import ConfigError
from pipeline.models.class_names import BACKGROUND

# Polygons (x, y, x, y ...) of float32, or COCO's run lengths {size, counts}
Mask: TypeAlias = "tuple[np.ndarray, ...] | dict[str, Any]"
_MAX_SHOWN = 10


@dataclass(frozen=True, slots=True)
class ListedImage:
    """One image. Rows of the arrays are its N objects, in pixels of the upright image, or `fractions` of its sides."""

    name: str  # for messages; one name, one image
    path: Path
    labels: np.ndarray  # (N,) int64, places in the listing's `names`; of a classified image one
    boxes_xyxy: np.ndarray  # (N, 4) float64
    ids: tuple[int | str, ...] = ()  # what `called` counts: "annotation" 7, "a.txt line" 3
    id_kind: str = "object"
    size_hw: tuple[int, int] | None = None  # as the annotation says; None: it does not
    masks: tuple[Mask, ...] | None = None
    keypoints: np.ndarray | None = None  # (N, K, 3) float64: x, y, visibility 0, 1 or 2
    crowd: np.ndarray | None = None  # (N,) bool, of task=segment
    label_map: Path | None = (
        None  # of task=segment: PNG of class ids from 1, 0 the background, 255 ignored
    )
    fractions: bool = False

    def describe_object(self, row: int) -> str:
        """What a message calls one of its objects."""
        return f"{self.name}: {self.id_kind} {self.ids[row]}" if row < len(self.ids) else self.name


@dataclass(frozen=True)
class DatasetListing:
    """A data set as it is listed. `digest` is of the annotations, not of images."""

    names: tuple[str, ...]  # of the classes, without a background
    training: list[ListedImage]
    validation: list[ListedImage] | None  # None: it brings none
    digest: str
    keypoint_names: tuple[str, ...] = ()


@dataclass
class ProblemList:
    """What is wrong with a data set: the first ten are shown, the rest is counted."""

    what: str  # such as train.data=set.json
    shown: list[str] = field(default_factory=list)
    count: int = 0

    def add(self, text: str) -> None:
        self.count += 1
        if len(self.shown) < _MAX_SHOWN:
            self.shown.append(" ".join(text.split())[:300])

    def raise_if_any(self) -> None:
        """Raises ConfigError where there are any."""
        if not self.count:
            return
        more = self.count - len(self.shown)
        lines = [*self.shown, *([f"and {more:,} more like these"] if more else [])]
        one = "a problem" if self.count == 1 else f"{self.count:,} problems"
        raise ConfigError(
            f"{self.what}: {one}, to be put right (or the images taken out) before anything is learnt from it:\n  "
            + "\n  ".join(lines)
        )


def drop_background(names: list[str]) -> list[str]:
    """Without an entry for the background, which has no objects."""
    return [name for name in names if not is_background(name)]


def is_background(name: str) -> bool:
    return name.casefold() in (BACKGROUND, "_background_", "background")


def empty_boxes() -> np.ndarray:
    return np.zeros((0, 4))
