"""The true classes of pixels: a folder of label maps, or objects with masks."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from pipeline.annotations.class_lists import ClassList, read_class_list
from pipeline.annotations.file_finder import drop_suffix, list_files
from pipeline.annotations.label_maps import draw_label_map, read_label_map
from pipeline.annotations.read_annotations import has_format
from pipeline.core.background import is_background
from pipeline.core.errors import ConfigError, shorten_list
from pipeline.core.keys import path_to_key
from pipeline.core.name_matching import KnownNames
from pipeline.core.types import InputError
from pipeline.ops.masks import IGNORED_LABEL
from pipeline.results.evaluation.object_truth import ObjectTruth, read_object_truth
from pipeline.runs.finished_run import FinishedRun


class RegionTruth(Protocol):
    """Label maps by the number of their image."""

    names: tuple[str, ...]  # of the images
    sizes_hw: np.ndarray | None  # (images, 2) pixels, -1 where not stated
    any_suffix: bool  # whether an image's own suffix may differ from that in its name
    classes: tuple[str, ...]  # the run's classes, then classes that only truth has
    notes: tuple[str, ...]

    def read(self, number: int, size_hw: tuple[int, int] | None) -> np.ndarray:
        """Return the positions of the pixels' classes, (H, W) uint8; 255 is ignored.

        Args:
            number: Number of the image.
            size_hw: Its size in the run, which the label map must have; None if it is not known.

        Raises:
            ConfigError: The label map is broken, or has another size or other values.
        """
        ...


def read_region_truth(run: FinishedRun, path: Path) -> RegionTruth:
    """Read a folder of label maps, or any data set from which task=segment learns.

    Raises:
        ConfigError: It cannot be read.
    """
    if path.is_dir() and not has_format(path, "segment"):
        return LabelMapFolder(run, path)
    return MaskedObjects(run, read_object_truth(run, path, "segment"))


class LabelMapFolder:
    """A folder of PNGs with the names of the images.

    The values are the run's class ids, or classes of a labelmap.txt in the folder.
    """

    sizes_hw: np.ndarray | None = None
    any_suffix = False

    def __init__(self, run: FinishedRun, folder: Path) -> None:
        # The label map of a.jpg is a.jpg.png, as the sink label_maps writes it, or a.png.
        self.files = list_files(folder, {".png"})
        self.names = tuple(
            path_to_key(drop_suffix(file.relative_to(folder).as_posix())) for file in self.files
        )
        if not self.files:
            raise ConfigError(
                f"truth={folder}: no PNG files in it. Expected an indexed one for each image: "
                "a.jpg.png or a.png."
            )
        listed = _read_label_map_classes(folder)
        self.colours = listed.values if listed else None
        self.classes, self.value_to_class, self.notes = (
            (run.categories, _keep_ids(run.categories), ())
            if listed is None
            else _match_classes(run, listed.names)
        )

    def read(self, number: int, size_hw: tuple[int, int] | None) -> np.ndarray:
        file = self.files[number]
        try:
            values = read_label_map(file, size_hw, self.colours)
        except (OSError, InputError) as error:
            raise ConfigError(f"{file}: cannot be read as a label map ({error}).") from None
        return _look_up(str(file), values, self.value_to_class, self.classes)


class MaskedObjects:
    """Objects with masks, or label maps, of a data set that training reads."""

    def __init__(self, run: FinishedRun, truth: ObjectTruth) -> None:
        self.truth, self.names = truth, truth.names
        self.sizes_hw: np.ndarray | None = truth.sizes_hw
        self.any_suffix = truth.named_by_stem
        names = [truth.categories[label] for label in range(len(truth.categories))]
        self.classes, self.value_to_class, notes = _match_classes(run, names)
        objects = [mask for image in truth.images for mask in image.masks or ()]
        maskless = sum(mask is None for mask in objects)
        if objects and maskless == len(objects):
            raise ConfigError("truth has boxes and no masks; a run of regions needs masks.")
        more = f"{maskless:,} objects of truth have no mask; they are left out"
        self.notes = (*truth.notes, *notes, *[more] * bool(maskless))

    def read(self, number: int, size_hw: tuple[int, int] | None) -> np.ndarray:
        image = self.truth.images[number]
        try:
            if image.label_map is not None:
                values = read_label_map(image.label_map, size_hw, image.colour_values)
            else:
                height, width = self.truth.find_size(number, size_hw or (-1, -1))
                values = draw_label_map(image, (height, width))
        except (OSError, InputError) as error:
            raise ConfigError(f"{image.name}: {error}") from None
        return _look_up(image.name, values, self.value_to_class, self.classes)


def _read_label_map_classes(folder: Path) -> ClassList | None:
    """Return the classes of labelmap.txt in the folder, or beside a VOC folder SegmentationClass.

    Lists without colours do not count: the files' values may be the run's class ids.
    """
    places = [folder, *([folder.parent] if folder.name.startswith("Segmentation") else [])]
    return next(
        (read_class_list(place) for place in places if (place / "labelmap.txt").is_file()), None
    )


def _keep_ids(categories: Sequence[str]) -> np.ndarray:
    """Return a table from value to class id, (256,) int64; -1 for values that are no class."""
    table = np.full(256, -1, np.int64)
    table[: len(categories)] = np.arange(len(categories))
    table[IGNORED_LABEL] = IGNORED_LABEL
    return table


def _match_classes(
    run: FinishedRun, names: Sequence[str]
) -> tuple[tuple[str, ...], np.ndarray, tuple[str, ...]]:
    """Match the classes of label maps, whose values begin at 1, with the run's by name.

    Returns:
        The run's classes and those that only truth has; the table from value to position in them,
        (256,) int64, -1 for values that are no class; and notes.

    Raises:
        ConfigError: A name could be several classes, no class is the run's, or there are too many.
    """
    known, classes = KnownNames(run.categories), list(run.categories)
    table = np.full(256, -1, np.int64)
    background = [i for i, name in enumerate(run.categories) if is_background(name)]
    table[0], table[IGNORED_LABEL] = (*background, IGNORED_LABEL)[0], IGNORED_LABEL
    unknown = []
    for value, name in enumerate(names, start=1):
        same = known.find(name)
        if len(same) > 1:
            raise ConfigError(f"truth's class {name!r} could be {' or '.join(map(repr, same))}.")
        if not same:
            unknown.append(name)
            classes.append(name)
        table[value] = run.categories.index(same[0]) if same else len(classes) - 1
    if len(unknown) == len(names):
        raise ConfigError(
            f"None of truth's classes is one of the run's. Truth has {shorten_list(names)}; the "
            f"run {shorten_list(run.categories)}."
        )
    if len(classes) > IGNORED_LABEL:
        raise ConfigError(
            f"A label map has room for {IGNORED_LABEL} classes; the run and truth have "
            f"{len(classes)}."
        )
    notes = [
        f"{len(unknown)} classes of truth are unknown to the model, so never found: "
        f"{shorten_list(unknown)}."
    ]
    return tuple(classes), table, tuple(notes * bool(unknown))


def _look_up(
    name: str, values: np.ndarray, value_to_class: np.ndarray, classes: Sequence[str]
) -> np.ndarray:
    found = value_to_class[values]
    if (found < 0).any():
        first, last = classes[0], classes[-1]
        raise ConfigError(
            f"{name}: value {values[found < 0].min()}; expected the run's class ids, 0 ({first}) "
            f"to {len(classes) - 1} ({last}), or {IGNORED_LABEL}."
        )
    return found.astype(np.uint8)
