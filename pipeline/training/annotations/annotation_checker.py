"""Check annotated images before training: files, image sizes, classes and positions of objects."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice

import numpy as np

from pipeline.core.cpu import count_available_cores, disable_openmp_threads
from pipeline.core.types import InputError
from pipeline.inputs.decoding.header import ImageHeader, read_image_header
from pipeline.ops.masks import IGNORED_LABEL
from pipeline.training.annotations.annotated_set import AnnotatedImage, read_label_map
from pipeline.training.annotations.dataset_listing import DatasetListing, ListedImage, ProblemList
from pipeline.training.annotations.geometry_checks import (
    ImageFrame,
    check_boxes,
    check_keypoints,
    check_mask,
)

NOT_LEARNT, UNKNOWN = -1, -2  # used instead of a class id
_FILES_PER_ROUND = 4096


@dataclass(frozen=True)
class _FileCheck:
    """The header of an image file, or the reason why the file cannot be used."""

    header: ImageHeader | None = None
    size: int = 0  # bytes
    values: np.ndarray | None = None  # the class numbers in its label map, from 1
    problem: str = ""


class AnnotationChecker:
    """Checks the images of a listing and collects their problems."""

    def __init__(
        self, listing: DatasetListing, class_ids: np.ndarray, problems: ProblemList, max_pixels: int
    ) -> None:
        self.names, self.class_ids, self.problems, self.max_pixels = (
            listing.names,
            class_ids,
            problems,
            max_pixels,
        )
        # Value of a label map -> class id. Classes that are not learned become background, 0.
        self.class_of = np.full(256, IGNORED_LABEL, np.uint8)
        self.class_of[: len(class_ids) + 1] = np.maximum(np.r_[0, class_ids], 0)

    def check_images(self, listed: Sequence[ListedImage]) -> tuple[list[AnnotatedImage], str]:
        """Check images by their headers; of label maps also the pixels.

        Returns:
            The images without problems, and the SHA-256 of all names and file sizes.
        """
        digest, names = sha256(), set[str]()
        annotated = []
        for one, seen in self._check_files(listed):
            digest.update(f"{one.name}\0{seen.size}\n".encode("utf-8", "surrogateescape"))
            before = self.problems.count
            if one.name in names:
                self.problems.add(f"{one.name}: two images have this name")
            names.add(one.name)
            found = self._check_objects(one, seen)
            if found is not None and self.problems.count == before:
                annotated.append(found)
        return annotated, digest.hexdigest()

    def _check_files(
        self, listed: Sequence[ListedImage]
    ) -> Iterator[tuple[ListedImage, _FileCheck]]:
        waiting = iter(listed)
        with ThreadPoolExecutor(
            count_available_cores(), initializer=disable_openmp_threads
        ) as threads:
            while some := list(islice(waiting, _FILES_PER_ROUND)):
                yield from zip(some, threads.map(self._check_file, some), strict=True)

    def _check_file(self, one: ListedImage) -> _FileCheck:
        if not one.path.is_file():
            return _FileCheck(problem=f"there is no file {one.path}")
        try:
            with one.path.open("rb") as file:
                header = read_image_header(file, self.max_pixels)
            values = None
            if one.label_map is not None:
                counts = np.bincount(
                    read_label_map(one.label_map, header.size_hw).ravel(), minlength=256
                )
                values = np.setdiff1d(np.flatnonzero(counts), (0, IGNORED_LABEL))
            return _FileCheck(header, one.path.stat().st_size, values)
        except InputError as error:
            return _FileCheck(problem=str(error))
        except OSError as error:
            return _FileCheck(problem=f"{error.strerror or error}")

    def _check_objects(self, one: ListedImage, seen: _FileCheck) -> AnnotatedImage | None:
        if seen.header is None:
            self.problems.add(f"{one.name}: {seen.problem}")
            return None
        _check_size(one, seen.header, self.problems)
        labels = one.labels if seen.values is None else self._list_map_labels(one, seen.values)
        ids = self.class_ids[labels]
        for row in np.flatnonzero(ids == UNKNOWN).tolist():
            name = self.names[labels[row]]
            self.problems.add(
                f"{one.describe_object(row)}: the class {name!r} is none of those that are learned"
            )
        rows = np.flatnonzero(ids >= 0)
        frame = ImageFrame(one, seen.header.size_hw, rows, self.problems)
        return AnnotatedImage(
            name=one.name,
            path=one.path,
            size_hw=seen.header.size_hw,
            labels=ids[rows],
            boxes_xyxy=check_boxes(frame),
            masks=None
            if one.masks is None
            else tuple(check_mask(frame, row, one.masks[row]) for row in rows.tolist()),
            keypoints=None
            if one.keypoints is None
            else check_keypoints(frame, one.keypoints[rows]),
            crowd=None if one.crowd is None else one.crowd[rows],
            label_map=one.label_map,
            class_of=None if one.label_map is None else self.class_of,
        )

    def _list_map_labels(self, one: ListedImage, values: np.ndarray) -> np.ndarray:
        """Return the class indices that occur in a label map; report values that are no class."""
        strange = values[values > len(self.names)]
        if len(strange):
            self.problems.add(
                f"{one.name}: its label map has the class {strange[0]}; "
                f"expected 0 to {len(self.names)}, or 255"
            )
        return values[values <= len(self.names)] - 1


def _check_size(one: ListedImage, header: ImageHeader, problems: ProblemList) -> None:
    if one.size_hw in (None, header.size_hw):
        return
    (height, width), (listed_height, listed_width) = header.size_hw, one.size_hw or (0, 0)
    turned = ""
    if header.orientation >= 5 and (listed_height, listed_width) == (width, height):
        turned = (
            f"; its EXIF orientation {header.orientation} turns it, and the annotations are of the "
            "picture before that. Annotate it upright, or store its pixels upright"
        )
    problems.add(
        f"{one.name}: the annotation says {listed_width}x{listed_height}, "
        f"the file has {width}x{height}{turned}"
    )
