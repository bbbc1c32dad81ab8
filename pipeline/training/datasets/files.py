"""Annotated image files: COCO JSON, YOLO data.yaml, a VOC folder, or a folder for each class."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from pipeline.annotations.dataset_listing import (
    AnnotationRequest,
    DatasetListing,
    ListedImage,
    ProblemList,
)
from pipeline.annotations.read_annotations import read_annotations
from pipeline.core.background import BACKGROUND
from pipeline.core.errors import ConfigError, shorten_list, suggest_nearest
from pipeline.core.locations import Uri, parse_location
from pipeline.core.name_matching import KnownNames, match_texts
from pipeline.ops.masks import IGNORED_LABEL
from pipeline.training.examples.annotated_set import AnnotatedImage, AnnotatedSet
from pipeline.training.examples.annotation_checker import NOT_LEARNT, UNKNOWN, AnnotationChecker
from pipeline.training.examples.validation_split import split_for_validation
from pipeline.training.task_registry import TASKS

log = logging.getLogger(__name__)
_DEFAULT_PART = 0.1  # the default of train.validation: the user chose no share


class Files:
    """Training data from annotated image files.

    The constructor reads the annotations and the images' headers, but no pixels. It raises a
    ConfigError that names all faulty files.
    """

    def __init__(
        self,
        data: str | None,
        images: str | None,
        validation: float | str,
        seed: int,
        max_pixels: int,
        task: str,
        classes: Sequence[str] | None = None,
    ) -> None:
        if task not in TASKS:
            raise ConfigError(
                f"task={task}: nothing is trained for it; expected {', '.join(TASKS)}."
                f"{suggest_nearest(task, TASKS)}"
            )
        self.task, self.max_pixels, self.only = task, max_pixels, classes
        self.folder = None if images is None else _parse_path("train.images", images)
        problems = ProblemList(f"train.data={_parse_path('train.data', data)}")
        listing = _read_listing(
            _parse_path("train.data", data), AnnotationRequest(task, self.folder), problems
        )
        self.all_names = listing.names
        self.names = _select_classes(listing.names, classes, problems.what)
        if task == "segment" and len(self.names) >= IGNORED_LABEL:
            raise ConfigError(
                f"{problems.what}: {len(self.names)} classes; task=segment has room for "
                f"{IGNORED_LABEL - 1}."
            )
        self.categories = self.names if task == "classify" else (BACKGROUND, *self.names)
        self.keypoint_names = listing.keypoint_names
        checked, digest = self._check_images(listing, listing.training, problems)
        if isinstance(validation, str):
            problems.raise_if_any()
            training, (held_out, which) = (
                checked,
                self._read_validation_set(_parse_path("train.validation", validation)),
            )
        else:
            training, held_out, which = self._split(listing, checked, problems, validation, seed)
            problems.raise_if_any()
        self._check_parts(problems.what, training, held_out)
        self.identity: Mapping[str, str] = {
            "data": digest,
            "classes": "\n".join(self.names),
            "validation": which,
        }
        self.training, self.validation = (
            AnnotatedSet(part, task, max_pixels) for part in (training, held_out)
        )

    def _check_images(
        self, listing: DatasetListing, listed: Sequence[ListedImage], problems: ProblemList
    ) -> tuple[list[AnnotatedImage], str]:
        """Return the images without problems and the SHA-256 of annotations, names and sizes."""
        first = 0 if self.task == "classify" else 1
        id_of = {name: number for number, name in enumerate(self.names, start=first)}
        other = UNKNOWN if self.only is None else NOT_LEARNT
        same = match_texts(listing.names, self.all_names).found  # of a validation set: by spelling
        spelled = [self.all_names[same[i]] if i in same else n for i, n in enumerate(listing.names)]
        class_ids = np.array([id_of.get(name, other) for name in spelled], np.int64)
        images, digest = AnnotationChecker(
            listing, class_ids, problems, self.max_pixels
        ).check_images(listed)
        if self.task == "classify":
            images = [image for image in images if len(image.labels)]
        return images, f"{listing.digest}{digest}"

    def _read_validation_set(self, path: Path) -> tuple[list[AnnotatedImage], str]:
        """Read the validation part from another data set; classes are matched by name."""
        problems = ProblemList(f"train.validation={path}")
        request = AnnotationRequest(self.task, self.folder, others=True, parts=("train",))
        listing = _read_listing(path, request, problems)
        if listing.keypoint_names != self.keypoint_names:
            raise ConfigError(
                f"{problems.what}: its keypoints are not those of the data: "
                f"{', '.join(self.keypoint_names)}."
            )
        images, digest = self._check_images(listing, listing.training, problems)
        problems.raise_if_any()
        return images, digest

    def _split(
        self,
        listing: DatasetListing,
        images: list[AnnotatedImage],
        problems: ProblemList,
        part: float,
        seed: int,
    ) -> tuple[list[AnnotatedImage], list[AnnotatedImage], str]:
        """Return both parts, and a text that identifies how the validation part was chosen."""
        if listing.validation is not None and part == _DEFAULT_PART:
            log.info("%s has a validation part of its own, which is used.", problems.what)
            return images, *self._check_images(listing, listing.validation, problems)
        if listing.validation is not None:
            log.info(
                "%s: its own validation part is left out, because train.validation=%g.",
                problems.what,
                part,
            )
        return *split_for_validation(
            images, part, seed, self.task == "classify"
        ), f"{part:g} by seed {seed}"

    def _check_parts(
        self, what: str, training: Sequence[AnnotatedImage], held_out: Sequence[AnnotatedImage]
    ) -> None:
        """Raise ConfigError if a part has no object. Warn if images are in both parts."""
        if not training and not held_out:
            raise ConfigError(f"{what}: there are no images in it.")
        learnt = f"of {shorten_list(self.names)}"
        if not any(image.has_objects for image in (*training, *held_out)):
            raise ConfigError(
                f"{what}: none of its {len(training) + len(held_out):,} images has an object "
                f"{learnt}."
            )
        for part, images in (("to learn from", training), ("for validation", held_out)):
            if not any(image.has_objects for image in images):
                raise ConfigError(
                    f"{what}: of {len(training)} images to learn from and {len(held_out)} for "
                    f"validation, none {part} has an object {learnt}. Set train.validation= to a "
                    "share above 0 and give the data two such images, or set it to another data "
                    "set."
                )
        both = _resolve_shared_names(training, held_out) & _resolve_shared_names(held_out, training)
        if both:
            log.warning(
                "%s images are in both the training and the validation part, such as %s: "
                "the validation figures will be too good.",
                f"{len(both):,}",
                min(both),
            )
        first = 0 if self.task == "classify" else 1
        seen = np.bincount(
            np.concatenate([image.labels for image in training]), minlength=len(self.categories)
        )
        absent = [name for name, count in zip(self.names, seen[first:], strict=True) if not count]
        if absent:
            log.warning("No object to learn from: %s.", shorten_list(absent))


def _read_listing(path: Path, request: AnnotationRequest, problems: ProblemList) -> DatasetListing:
    """Read annotations and log what was passed over."""
    listing = read_annotations(path, request, problems)
    for note in listing.notes:
        log.warning("%s: %s.", problems.what, note)
    return listing


def _parse_path(key: str, given: str | None) -> Path:
    if given is None:
        raise ConfigError(f"{key}= is needed: annotated images to learn from.")
    location = parse_location(given)
    if isinstance(location, Uri):
        raise ConfigError(
            f"{key}={location}: expected a file or folder of this machine; copy it here first."
        )
    return location


def _select_classes(
    names: tuple[str, ...], only: Sequence[str] | None, what: str
) -> tuple[str, ...]:
    """Return the classes to learn, in the order of the data."""
    if only is None:
        return names

    known = KnownNames(names)
    found = {name: known.find(name) for name in only}
    for name, same in found.items():
        if not same:
            raise ConfigError(
                f"classes: {what} has no class {name!r}.{suggest_nearest(name, names)} "
                f"It has {shorten_list(names)}."
            )
        if len(same) > 1:
            raise ConfigError(
                f"classes: {name!r} could be any of the classes {', '.join(map(repr, same))} of "
                f"{what}. Write one of them as it is."
            )
    chosen = {same[0] for same in found.values()}
    return tuple(name for name in names if name in chosen)


def _resolve_shared_names(
    images: Sequence[AnnotatedImage], others: Sequence[AnnotatedImage]
) -> set[Path]:
    """Return the resolved paths of the images that share a file name with one of `others`.

    Resolving every path of a large data set would take minutes.
    """
    names = {image.path.name for image in others}
    return {image.path.resolve() for image in images if image.path.name in names}
