"""The listing of an annotated data set before it is checked, and the list of its problems."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np

from pipeline.annotations.id_index import Id
from pipeline.core.background import is_background
from pipeline.core.errors import ConfigError

# Polygons (x, y, x, y ...) of float64, or COCO's run lengths {size, counts}
Mask: TypeAlias = tuple[np.ndarray, ...] | dict[str, Any]
T = TypeVar("T")
PART_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
_MAX_SHOWN = 10
_NOTED = 3  # examples that a note names
_SHAPES = {
    "detect": {"boxes"},
    "instances": {"boxes", "masks"},
    "keypoints": {"boxes", "keypoints"},
    "segment": {"masks"},
}


@dataclass(frozen=True)
class AnnotationRequest:
    """The annotations to read from a data set, and where its images are."""

    task: str
    images: Path | None = None  # folder of images that the data set does not hold
    others: bool = False  # whether `images` belongs to another data set; it is searched last
    parts: tuple[str, ...] = ("train", "val")  # the parts to read
    # Training needs all shapes of the task and no crowds, because they are not single objects.
    # Evaluation takes what is there.
    training: bool = True

    @property
    def shapes(self) -> frozenset[str]:
        """The kinds of shapes to read: boxes, masks, keypoints."""
        return frozenset(_SHAPES.get(self.task, ()))

    @property
    def crowds(self) -> bool:
        return not self.training or self.task == "segment"


@dataclass(frozen=True, slots=True)
class ListedImage:
    """One image and its N objects, as the data set lists them.

    Coordinates are in pixels of the upright image, or in fractions of its sides.
    """

    name: str  # unique; used in messages
    path: Path
    labels: np.ndarray  # (N,) int64 indices into the listing's `names`; classify: (1,)
    boxes_xyxy: np.ndarray  # (N, 4) float64
    ids: tuple[Id, ...] = ()  # one for each object, for messages, e.g. an annotation's id
    id_kind: str = "object"  # what `ids` number: "annotation" or "a.txt line"
    size_hw: tuple[int, int] | None = None  # according to the annotation; None: not given
    masks: tuple[Mask | None, ...] | None = None  # None for an object that has none
    keypoints: np.ndarray | None = None  # (N, K, 3) float64 x, y, visibility; NaN: not annotated
    crowd: np.ndarray | None = None  # (N,) bool; None: there are none
    areas: np.ndarray | None = None  # (N,) float64 square pixels, NaN where not given
    # Only for task=segment: a PNG of class ids from 1; 0 is the background, 255 is ignored.
    label_map: Path | None = None
    colour_values: Mapping[tuple[int, int, int], int] | None = None  # colour -> value in the map
    fractions: bool = False  # coordinates are fractions of the image's sides
    key: str = ""  # the image's name for comparison with other names; empty: `name`

    def describe_object(self, row: int) -> str:
        """Return the name of one object for messages."""
        return f"{self.name}: {self.id_kind} {self.ids[row]}" if row < len(self.ids) else self.name


@dataclass(frozen=True)
class DatasetListing:
    """A data set before it is checked."""

    names: tuple[str, ...]  # class names without the background
    parts: Mapping[str, list[ListedImage]]  # train, val, test; those that it has
    digest: str  # SHA-256 of the annotations, without the images
    keypoint_names: tuple[str, ...] = ()
    class_ids: tuple[Id, ...] = ()  # of `names`, as the data set counts; empty: from 0
    notes: tuple[str, ...] = ()  # what was passed over, in sentences
    named_by_stem: bool = False  # whether annotations are found by an image's name without suffix

    @property
    def training(self) -> list[ListedImage]:
        return self.parts.get("train", [])

    @property
    def validation(self) -> list[ListedImage] | None:
        """The validation part, or None if the data set has none."""
        return self.parts.get("val") or None


@dataclass
class ProblemList:
    """Collects the problems of a data set; shows the first ten and counts the rest."""

    what: str  # the data set in messages, e.g. train.data=set.json
    purpose: str = "training"
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
            f"{self.what}: {count}, to be corrected (or the images removed) before "
            f"{self.purpose}:\n  " + "\n  ".join(lines)
        )


def count_passed_over(what: str, examples: Sequence[str]) -> list[str]:
    """Return a note that counts and names what was passed over; an empty list for nothing."""
    if not examples:
        return []
    named = ", ".join(examples[:_NOTED]) + (", ..." if len(examples) > _NOTED else "")
    return [f"{len(examples):,} {what}: {named}"]


def name_part(name: str) -> str | None:
    """Return train, val or test for a usual name of a part, or None."""
    return PART_NAMES.get(name.casefold())


def split_by_folder(items: Mapping[str, T]) -> dict[str, list[T]] | None:
    """Group items by the part that the first folder of their names is; None if one is no part."""
    parts: dict[str, list[T]] = {}
    for name, item in items.items():
        part = name_part(name.partition("/")[0]) if "/" in name else None
        if part is None:
            return None
        parts.setdefault(part, []).append(item)
    return parts if "train" in parts else None


def drop_background(names: list[str]) -> list[str]:
    """Return the class names without the background, which has no objects."""
    return [name for name in names if not is_background(name)]


def empty_boxes() -> np.ndarray:
    return np.zeros((0, 4))
