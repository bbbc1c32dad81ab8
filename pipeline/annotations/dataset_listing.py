"""The listing of an annotated data set before it is checked, and the list of its problems."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from pipeline.core.background import is_background
from pipeline.core.errors import ConfigError

# Polygons (x, y, x, y ...) of float32, or COCO's run lengths {size, counts}
Mask: TypeAlias = "tuple[np.ndarray, ...] | dict[str, Any]"
_MAX_SHOWN = 10


@dataclass(frozen=True, slots=True)
class ListedImage:
    """One image and its N objects, as the data set lists them.

    Coordinates are in pixels of the upright image, or in fractions of its sides.
    """

    name: str  # unique; used in messages
    path: Path
    labels: np.ndarray  # (N,) int64 indices into the listing's `names`; classify: (1,)
    boxes_xyxy: np.ndarray  # (N, 4) float64
    ids: tuple[int | str, ...] = ()  # one for each object, for messages, e.g. an annotation's id
    id_kind: str = "object"  # what `ids` number: "annotation" or "a.txt line"
    size_hw: tuple[int, int] | None = None  # according to the annotation; None: not given
    masks: tuple[Mask, ...] | None = None
    keypoints: np.ndarray | None = None  # (N, K, 3) float64: x, y, visibility 0, 1 or 2
    crowd: np.ndarray | None = None  # (N,) bool, only for task=segment
    # Only for task=segment: a PNG of class ids from 1; 0 is the background, 255 is ignored.
    label_map: Path | None = None
    fractions: bool = False  # coordinates are fractions of the image's sides

    def describe_object(self, row: int) -> str:
        """Return the name of one object for messages."""
        return f"{self.name}: {self.id_kind} {self.ids[row]}" if row < len(self.ids) else self.name


@dataclass(frozen=True)
class DatasetListing:
    """A data set before it is checked."""

    names: tuple[str, ...]  # class names without the background
    training: list[ListedImage]
    validation: list[ListedImage] | None  # None: the data set has no validation part
    digest: str  # SHA-256 of the annotations, without the images
    keypoint_names: tuple[str, ...] = ()


@dataclass
class ProblemList:
    """Collects the problems of a data set; shows the first ten and counts the rest."""

    what: str  # the data set in messages, e.g. train.data=set.json
    shown: list[str] = field(default_factory=list)
    count: int = 0

    def add(self, text: str) -> None:
        self.count += 1
        if len(self.shown) < _MAX_SHOWN:
            self.shown.append(" ".join(text.split())[:300])

    def raise_if_any(self) -> None:
        """Raise ConfigError if there are problems."""
        if not self.count:
            return
        more = self.count - len(self.shown)
        lines = [*self.shown, *([f"and {more:,} more like these"] if more else [])]
        count = "a problem" if self.count == 1 else f"{self.count:,} problems"
        raise ConfigError(
            f"{self.what}: {count}, to be corrected (or the images removed) before training:\n  "
            + "\n  ".join(lines)
        )


def drop_background(names: list[str]) -> list[str]:
    """Return the class names without the background, which has no objects."""
    return [name for name in names if not is_background(name)]


def empty_boxes() -> np.ndarray:
    return np.zeros((0, 4))
