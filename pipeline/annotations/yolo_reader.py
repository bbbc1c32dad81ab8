"""Read Ultralytics' YOLO format: data.yaml, and a text file of labels for each image.

Coordinates are fractions of the image's sides.
"""

import hashlib
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from pipeline.annotations.dataset_listing import (
    DatasetListing,
    ListedImage,
    ProblemList,
    empty_boxes,
)
from pipeline.core.errors import ConfigError
from pipeline.inputs.decoding.formats import IMAGE_SUFFIXES
from pipeline.ops.keypoints import COCO_KEYPOINTS, find_mirrored_keypoints

log = logging.getLogger(__name__)
TASKS = frozenset({"detect", "instances", "keypoints", "segment"})
_UNREADABLE = (YAMLError, OmegaConfBaseException, RecursionError)
_BOX = 4  # number of values: centre x, centre y, width, height


def read_yolo(path: Path, task: str, problems: ProblemList) -> DatasetListing:
    """Read a YOLO data set.

    `train` and `val` in data.yaml are folders, lists of images, or several of these, relative to
    its `path`. The labels of images/a.jpg are in labels/a.txt; an image without this file has no
    objects. A line of labels is a class and a box, a polygon, or a box and keypoints.

    Raises:
        ConfigError: The file is not a YOLO data.yaml.
        OSError: A file cannot be read.
    """
    try:
        data: Any = OmegaConf.to_container(OmegaConf.load(path))
        reader = _YoloReader(path, data, task, problems)
    except (*_UNREADABLE, ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(
            f"{path}: expected YOLO's data.yaml, with train and names ({why})."
        ) from None
    training = reader.list_images(data["train"])
    held_out = reader.list_images(data["val"]) if data.get("val") else []
    if held_out == training and held_out:
        log.info("%s: train and val are the same images.", path)
        held_out = []
    parts = [[reader.list_image(image) for image in images] for images in (training, held_out)]
    return DatasetListing(
        tuple(reader.names.values()),
        parts[0],
        parts[1] or None,
        reader.digest.hexdigest(),
        reader.point_names,
    )


class _YoloReader:
    def __init__(
        self, path: Path, data: Mapping[str, Any], task: str, problems: ProblemList
    ) -> None:
        self.path, self.task, self.problems = path, task, problems
        self.root = path.parent / str(data.get("path") or "")
        if not self.root.is_dir():  # `path` may be valid only on the machine that wrote the file
            self.root = path.parent
        names = data["names"]
        pairs = (
            enumerate(names)
            if isinstance(names, list)
            else ((int(number), name) for number, name in names.items())
        )
        self.names = {
            number: str(name) for number, name in sorted(pairs)
        }  # the file's class number -> name
        if len(set(self.names.values())) < len(self.names):
            raise ValueError("two classes have one name")
        self.labels = {number: label for label, number in enumerate(self.names)}
        self.point_shape = tuple(int(value) for value in data.get("kpt_shape") or ())
        if self.point_shape and (
            len(self.point_shape) != 2
            or self.point_shape[0] < 1
            or self.point_shape[1] not in (2, 3)
        ):
            raise ValueError(f"kpt_shape is {list(self.point_shape)}; expected [points, 2 or 3]")
        if task == "keypoints" and not self.point_shape:
            raise ValueError("task=keypoints needs its kpt_shape")
        self.point_names = (
            _find_point_names(data, self.point_shape[0]) if task == "keypoints" else ()
        )
        data["train"]  # raises KeyError
        self.digest = hashlib.sha256(path.read_bytes())
        self.image_of: dict[Path, Path] = {}  # label file -> its image

    def list_images(self, given: Any) -> list[Path]:
        """List the images of a part. Raises ConfigError if a folder or list does not exist."""
        return [
            image
            for part in (given if isinstance(given, list) else [given])
            for image in self._list_part(str(part))
        ]

    def _list_part(self, given: str) -> Iterator[Path]:
        # Roboflow writes ../train/images although the folder is beside the file.
        candidates = [
            self.root / given,
            self.path.parent / given,
            self.path.parent / given.removeprefix("../"),
        ]
        found = next((path for path in candidates if path.exists()), None)
        if found is None:
            raise ConfigError(f"{self.path}: there is no {candidates[0]}, which it names.")
        if found.is_dir():
            for folder, folders, files in os.walk(found):
                folders.sort()
                yield from (
                    Path(folder) / name
                    for name in sorted(files)
                    if Path(name).suffix.casefold() in IMAGE_SUFFIXES
                )
        else:
            for line in found.read_text(encoding="utf-8-sig").splitlines():
                if name := line.strip():
                    yield (found.parent if name.startswith("./") else self.root) / name

    def list_image(self, image: Path) -> ListedImage:
        labels = _label_file(image)
        other = self.image_of.setdefault(labels, image)
        if other != image:
            self.problems.add(
                f"{self._relative_name(other)}: {self._relative_name(image)} has the same labels, "
                f"{labels.name}"
            )
        try:
            text = labels.read_bytes()
        except FileNotFoundError:
            text = b""
        self.digest.update(text)
        name = self._relative_name(image)
        rows = list(self._parse_lines(text, f"{name}: {labels.name} line"))
        numbers, classes, boxes, polygons, points = zip(*rows, strict=True) if rows else ((),) * 5
        return ListedImage(
            name=name,
            path=image,
            labels=np.array(classes, np.int64),
            boxes_xyxy=empty_boxes()
            if self.task == "segment"
            else np.array(boxes, np.float64).reshape(-1, 4),
            ids=numbers,
            id_kind=f"{labels.name} line",
            masks=tuple((polygon,) for polygon in polygons)
            if self.task in ("instances", "segment")
            else None,
            keypoints=np.array(points).reshape(-1, len(self.point_names), 3)
            if self.task == "keypoints"
            else None,
            fractions=True,
        )

    def _relative_name(self, image: Path) -> str:
        return (
            image.relative_to(self.root) if image.is_relative_to(self.root) else image
        ).as_posix()

    def _parse_lines(self, text: bytes, place: str) -> Iterator[tuple[Any, ...]]:
        """Yield (line number, label, box, polygon, keypoints) of each valid line."""
        for number, line in enumerate(text.decode("utf-8", "replace").splitlines(), start=1):
            if not line.strip():
                continue
            try:
                values = np.array(line.split(), np.float64)
                if values[0] not in self.labels:
                    raise ValueError(
                        f"the class {values[0]:g} is none of data.yaml's names, "
                        f"{min(self.names)} to {max(self.names)}"
                    )
                box, polygon, points = self._parse_values(values[1:])
            except ValueError as error:
                self.problems.add(f"{place} {number}: {error}")
                continue
            yield number, self.labels[int(values[0])], box, polygon, points

    def _parse_values(
        self, values: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
        """Split the values after the class into (box xyxy, polygon, keypoints (K, 3))."""
        if self.point_shape:
            count, dimensions = self.point_shape
            if len(values) != _BOX + count * dimensions:
                raise ValueError(
                    f"{len(values)} values after the class; "
                    f"kpt_shape asks for {_BOX + count * dimensions}"
                )
            return (
                _box_to_xyxy(values[:_BOX]),
                None,
                _add_visibility(values[_BOX:].reshape(count, dimensions)),
            )
        if len(values) == _BOX:
            if self.task in ("instances", "segment"):
                raise ValueError(f"it is a box; task={self.task} needs polygons")
            return _box_to_xyxy(values), None, None
        if len(values) < 6 or len(values) % 2:
            raise ValueError(
                f"{len(values)} values after the class; "
                "expected a box's four, or x and y of three points or more"
            )
        points = values.reshape(-1, 2)
        return np.concatenate([points.min(axis=0), points.max(axis=0)]), values, None


def _label_file(image: Path) -> Path:
    *_, folder = [-1, *(i for i, part in enumerate(image.parts[:-1]) if part == "images")]
    parts = [*image.parts[:-1], f"{image.stem}.txt"]
    if folder >= 0:
        parts[folder] = "labels"
    return Path(*parts)


def _box_to_xyxy(box: np.ndarray) -> np.ndarray:
    return np.concatenate([box[:2] - box[2:] / 2, box[:2] + box[2:] / 2])


def _add_visibility(points: np.ndarray) -> np.ndarray:
    """Add a missing visibility, (K, 2 or 3) -> (K, 3). A point at 0 0 is not labelled."""
    if points.shape[1] == 3:
        return points
    return np.concatenate([points, 2.0 * (points != 0).any(axis=1, keepdims=True)], axis=1)


def _find_point_names(data: Mapping[str, Any], count: int) -> tuple[str, ...]:
    """Return the names of the keypoints.

    They are `kpt_names` if the file has them, or COCO's names if `flip_idx` fits those. Otherwise
    they are made from `flip_idx`: two points that change places in a mirror image become left_1
    and right_1.
    """
    given = data.get("kpt_names")
    lists: Sequence[Any] = (
        list(given.values()) if isinstance(given, dict) else [given] if given else []
    )
    named = {tuple(map(str, item)) for item in lists}
    if named:
        names = named.pop()
        if named or len(names) != count or len(set(names)) != count:
            raise ValueError(f"kpt_names are not one list of {count} names")
        return names
    other = [int(item) for item in data.get("flip_idx") or range(count)]
    if sorted(other) != list(range(count)) or any(other[other[i]] != i for i in range(count)):
        raise ValueError(f"flip_idx does not exchange {count} points in pairs")
    if other == find_mirrored_keypoints(COCO_KEYPOINTS):
        return COCO_KEYPOINTS
    sides = (
        "point" if other[i] == i else "left" if i < other[i] else "right" for i in range(count)
    )
    return tuple(f"{side}_{min(i, other[i])}" for i, side in enumerate(sides))
