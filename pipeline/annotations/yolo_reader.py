"""Read YOLO data sets: a text file of labels for each image.

Coordinates are fractions of the image's sides.
"""

import hashlib
import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pipeline.annotations.dataset_listing import (
    AnnotationRequest,
    DatasetListing,
    ListedImage,
    ProblemList,
    count_passed_over,
    empty_boxes,
)
from pipeline.annotations.file_finder import StemFinder, drop_suffix
from pipeline.annotations.text_files import decode_text
from pipeline.annotations.yolo_labels import LabelParser
from pipeline.annotations.yolo_layout import (
    NOT_LABELS,
    YoloLayout,
    find_label_folder,
    read_yolo_layout,
)
from pipeline.core.keys import read_suffix
from pipeline.core.passed_over import is_passed_over_name
from pipeline.inputs.decoding.formats import IMAGE_SUFFIXES

log = logging.getLogger(__name__)
TASKS = frozenset({"detect", "instances", "keypoints", "segment"})


def read_yolo(path: Path, request: AnnotationRequest, problems: ProblemList) -> DatasetListing:
    """Read a YOLO data set.

    `train` and `val` in data.yaml are folders, lists of images, or several of these, relative to
    its `path`. The labels of images/a.jpg are in labels/a.txt, or else beside the image; an image
    without this file has no objects. A line of labels is a class and a box, a polygon, or a box
    and keypoints.

    Raises:
        ConfigError: The file is not a YOLO data.yaml.
        OSError: A file cannot be read.
    """
    layout = read_yolo_layout(path, request)
    parts = dict(layout.parts)
    if parts.get("val") and parts["val"] == parts.get("train"):
        log.info("%s: train and val are the same images.", path)
        del parts["val"]
    reader = _YoloReader(layout, request, problems)
    listed = {
        part: [reader.list_image(image) for image in images] for part, images in parts.items()
    }
    return DatasetListing(
        tuple(layout.names.values()),
        listed,
        reader.digest.hexdigest(),
        layout.point_names,
        tuple(layout.names),
        tuple(reader.list_notes()),
        named_by_stem=True,
    )


class _YoloReader:
    def __init__(
        self, layout: YoloLayout, request: AnnotationRequest, problems: ProblemList
    ) -> None:
        self.layout, self.request, self.problems = layout, request, problems
        self.parser = LabelParser(layout, request.shapes)
        self.digest = hashlib.sha256(layout.file.read_bytes())
        self.image_of: dict[Path, Path] = {}  # label file -> its image
        self.finder = StemFinder({".txt"})

    def list_image(self, image: Path) -> ListedImage:
        labels, text = self._read_labels(image)
        self.digest.update(text)
        name = self._relative_name(image)
        rows = list(self._parse_lines(text, f"{name}: {labels.name} line"))
        numbers, classes, boxes, polygons, points = zip(*rows, strict=True) if rows else ((),) * 5
        shapes = self.request.shapes
        return ListedImage(
            name=name,
            path=image,
            labels=np.array(classes, np.int64),
            boxes_xyxy=np.array(boxes, np.float64).reshape(-1, 4)
            if "boxes" in shapes
            else empty_boxes(),
            ids=numbers,
            id_kind=f"{labels.name} line",
            masks=tuple(None if polygon is None else (polygon,) for polygon in polygons)
            if "masks" in shapes
            else None,
            keypoints=np.array(points, np.float64).reshape(-1, len(self.layout.point_names), 3)
            if self.layout.point_names
            else None,
            fractions=True,
        )

    def list_notes(self) -> list[str]:
        """Return a note about label files that belong to no image."""
        if not self.request.training:
            return []
        images, orphans = StemFinder(IMAGE_SUFFIXES), []
        for folder in {image.parent for image in self.image_of.values()}:
            labels = find_label_folder(folder)
            if labels == folder or not labels.is_dir():
                continue
            orphans += [
                self._relative_name(file)
                for file in sorted(labels.iterdir())
                if read_suffix(file.name) == ".txt"
                and not is_passed_over_name(file.name)
                and file.name.casefold() not in NOT_LABELS
                and file not in self.image_of
                and not images.find(folder, drop_suffix(file.name))
            ]
        what = "label files are of no image; they are passed over"
        return count_passed_over(what, sorted(orphans))

    def _read_labels(self, image: Path) -> tuple[Path, bytes]:
        """Return the path and the content of an image's labels; empty without the file."""
        if image in self.layout.labels_of:
            labels = self.layout.labels_of[image]
            return labels, labels.read_bytes()
        stem = drop_suffix(image.name)
        for folder in dict.fromkeys((find_label_folder(image.parent), image.parent)):
            exact = folder / f"{stem}.txt"
            found = [exact] if exact.is_file() else self.finder.find(folder, stem)
            if len(found) > 1:
                self.problems.add(
                    f"{self._relative_name(image)}: its labels could be "
                    f"{' or '.join(path.name for path in found)}"
                )
            if found:
                self._claim(found[0], image)
                return found[0], found[0].read_bytes()
        labels = find_label_folder(image.parent) / f"{stem}.txt"
        self._claim(labels, image)
        return labels, b""

    def _claim(self, labels: Path, image: Path) -> None:
        other = self.image_of.setdefault(labels, image)
        if other != image:
            self.problems.add(
                f"{self._relative_name(other)}: {self._relative_name(image)} has the same labels, "
                f"{labels.name}"
            )

    def _relative_name(self, image: Path) -> str:
        root = self.layout.root
        return (image.relative_to(root) if image.is_relative_to(root) else image).as_posix()

    def _parse_lines(self, text: bytes, place: str) -> Iterator[tuple]:
        """Yield (line number, label, box, polygon, keypoints) of each valid line."""
        for number, line in enumerate(decode_text(text, "replace").splitlines(), start=1):
            if not line.strip():
                continue
            try:
                yield (number, *self.parser.parse_line(line))
            except ValueError as error:
                self.problems.add(f"{place} {number}: {error}")
