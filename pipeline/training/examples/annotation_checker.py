"""Check annotated images before training: files, image sizes, classes and positions of objects."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice

import numpy as np

from pipeline.annotations.dataset_listing import DatasetListing, ListedImage, ProblemList
from pipeline.annotations.label_maps import read_label_map
from pipeline.core.cpu import count_available_cores, disable_openmp_threads
from pipeline.core.types import InputError
from pipeline.inputs.decoding.header import ImageHeader, read_image_header
from pipeline.ops.masks import IGNORED_LABEL
from pipeline.training.examples.annotated_set import AnnotatedImage
from pipeline.training.examples.geometry_checks import (
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
        """Check images by their headers. Pixels are read of label maps only.

        Returns:
            The images without problems, and the SHA-256 of all names and file sizes.
        """
        digest, names = sha256(), set[str]()
        annotated = []
        for image, file_check in self._check_files(listed):
            digest.update(f"{image.name}\0{file_check.size}\n".encode("utf-8", "surrogateescape"))
            before = self.problems.count
            if image.name in names:
                self.problems.add(f"{image.name}: two images have this name")
            names.add(image.name)
            checked = self._check_objects(image, file_check)
            if checked is not None and self.problems.count == before:
                annotated.append(checked)
        return annotated, digest.hexdigest()

    def _check_files(
        self, listed: Sequence[ListedImage]
    ) -> Iterator[tuple[ListedImage, _FileCheck]]:
        waiting = iter(listed)
        with ThreadPoolExecutor(
            count_available_cores(), initializer=disable_openmp_threads
        ) as threads:
            while batch := list(islice(waiting, _FILES_PER_ROUND)):
                yield from zip(batch, threads.map(self._check_file, batch), strict=True)

    def _check_file(self, image: ListedImage) -> _FileCheck:
        if not image.path.is_file():
            return _FileCheck(problem=f"there is no file {image.path}")
        try:
            with image.path.open("rb") as file:
                header = read_image_header(file, self.max_pixels)
            values = None
            if image.label_map is not None:
                label_map = read_label_map(image.label_map, header.size_hw, image.colour_values)
                counts = np.bincount(label_map.ravel(), minlength=256)
                values = np.setdiff1d(np.flatnonzero(counts), (0, IGNORED_LABEL))
            return _FileCheck(header, image.path.stat().st_size, values)
        except InputError as error:
            return _FileCheck(problem=str(error))
        except OSError as error:
            return _FileCheck(problem=f"{error.strerror or error}")

    def _check_objects(self, image: ListedImage, file_check: _FileCheck) -> AnnotatedImage | None:
        if file_check.header is None:
            self.problems.add(f"{image.name}: {file_check.problem}")
            return None
        _check_size(image, file_check.header, self.problems)
        labels = (
            image.labels
            if file_check.values is None
            else self._list_map_labels(image, file_check.values)
        )
        ids = self.class_ids[labels]
        for row in np.flatnonzero(ids == UNKNOWN).tolist():
            name = self.names[labels[row]]
            self.problems.add(
                f"{image.describe_object(row)}: the class {name!r} is none of those that are "
                "learned"
            )
        rows = np.flatnonzero(ids >= 0)
        frame = ImageFrame(image, file_check.header.size_hw, rows, self.problems)
        return AnnotatedImage(
            name=image.name,
            path=image.path,
            size_hw=file_check.header.size_hw,
            labels=ids[rows],
            boxes_xyxy=check_boxes(frame),
            masks=None
            if image.masks is None
            else tuple(check_mask(frame, row, image.masks[row]) for row in rows.tolist()),
            colour_values=image.colour_values,
            keypoints=None
            if image.keypoints is None
            else check_keypoints(frame, image.keypoints[rows]),
            crowd=None if image.crowd is None else image.crowd[rows],
            label_map=image.label_map,
            class_of=None if image.label_map is None else self.class_of,
        )

    def _list_map_labels(self, image: ListedImage, values: np.ndarray) -> np.ndarray:
        """Return the class indices that occur in a label map; report values that are no class."""
        unknown = values[values > len(self.names)]
        if len(unknown):
            self.problems.add(
                f"{image.name}: its label map has the class {unknown[0]}; "
                f"expected 0 to {len(self.names)}, or 255"
            )
        return values[values <= len(self.names)] - 1


def _check_size(image: ListedImage, header: ImageHeader, problems: ProblemList) -> None:
    if image.size_hw in (None, header.size_hw):
        return
    (height, width), (listed_height, listed_width) = header.size_hw, image.size_hw or (0, 0)
    turned = ""
    if header.orientation >= 5 and (listed_height, listed_width) == (width, height):
        turned = (
            f"; its EXIF orientation {header.orientation} turns it, and the annotations are of the "
            "picture before that. Annotate it upright, or store its pixels upright"
        )
    problems.add(
        f"{image.name}: the annotation says {listed_width}x{listed_height}, "
        f"the file has {width}x{height}{turned}"
    )
