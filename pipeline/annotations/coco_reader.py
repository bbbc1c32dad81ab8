"""Read annotations in COCO's JSON format: images, annotations and categories."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.annotations.dataset_listing import (
    DatasetListing,
    ListedImage,
    Mask,
    ProblemList,
    empty_boxes,
)
from pipeline.core.background import is_background
from pipeline.core.errors import ConfigError

TASKS = frozenset({"detect", "instances", "keypoints", "segment"})


def read_coco(
    path: Path, task: str, images: Sequence[Path], problems: ProblemList
) -> DatasetListing:
    """Read a COCO file.

    Annotations with `iscrowd` are left out, because they are not single objects. For task=segment
    they are kept, so that training can ignore their pixels.

    Args:
        path: The JSON file.
        task: The task.
        images: Folders to search for the images.
        problems: Receives the problems of single images and annotations.

    Raises:
        ConfigError: The file is not in COCO's format.
    """
    try:
        data = path.read_bytes()
        content = json.loads(data)
        return _CocoReader(content, task, images, problems).build_listing(
            hashlib.sha256(data).hexdigest()
        )
    except OSError as error:
        raise ConfigError(
            f"{path}: {error.strerror}. Expected a JSON file in COCO's format."
        ) from None
    except (
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        OverflowError,
        RecursionError,
    ) as error:
        raise ConfigError(
            f"{path}: expected COCO's format, with images, annotations and categories "
            f"({type(error).__name__}: {error})."
        ) from None


def guess_image_folders(path: Path) -> list[Path]:
    """List the folders in which the images of a COCO file may be.

    These are `images/` beside the file, the file's own folder, and the folder that COCO's layout
    implies: there annotations/instances_val2017.json describes val2017/.
    """
    named = path.stem.rpartition("_")[2]
    return [
        path.parent / "images",
        path.parent,
        path.parent.parent / named,
        path.parent.parent / "images" / named,
    ]


class _CocoReader:
    def __init__(
        self, content: Mapping[str, Any], task: str, images: Sequence[Path], problems: ProblemList
    ) -> None:
        self.content, self.task, self.images, self.problems = content, task, images, problems
        categories = sorted(
            (
                category
                for category in content["categories"]
                if not is_background(str(category["name"]))
            ),
            key=lambda category: int(category["id"]),
        )
        self.names = tuple(str(category["name"]) for category in categories)
        self.label_of = {int(category["id"]): label for label, category in enumerate(categories)}
        if len(self.label_of) < len(categories) or len(set(self.names)) < len(categories):
            raise ValueError("two categories have one id or one name")
        self.point_names = _find_keypoint_names(categories) if task == "keypoints" else ()

    def build_listing(self, digest: str) -> DatasetListing:
        annotations: dict[Any, list[Mapping[str, Any]]] = {
            image["id"]: [] for image in self.content["images"]
        }
        if len(annotations) < len(self.content["images"]):
            raise ValueError("two images have one id")
        for annotation in self.content["annotations"]:
            if annotation["image_id"] in annotations:
                annotations[annotation["image_id"]].append(annotation)
            else:
                self.problems.add(
                    f"annotation {annotation.get('id')}: "
                    f"image_id {annotation['image_id']!r} is none of the file's images"
                )
        listed = [
            self._list_image(image, annotations[image["id"]]) for image in self.content["images"]
        ]
        return DatasetListing(self.names, listed, None, digest, self.point_names)

    def _list_image(
        self, image: Mapping[str, Any], annotations: Sequence[Mapping[str, Any]]
    ) -> ListedImage:
        name = str(image["file_name"])
        height, width = (int(image.get(side) or 0) for side in ("height", "width"))
        objects = list(self._parse_objects(name, annotations))
        labels, boxes, masks, points, crowd, ids = (
            zip(*objects, strict=True) if objects else ((),) * 6
        )
        return ListedImage(
            name=name,
            path=_find_image(self.images, name),
            labels=np.array(labels, np.int64),
            boxes_xyxy=empty_boxes()
            if self.task == "segment"
            else np.array(boxes, np.float64).reshape(-1, 4),
            ids=ids,
            id_kind="annotation",
            size_hw=(height, width) if height and width else None,
            masks=masks if self.task in ("instances", "segment") else None,
            keypoints=np.array(points).reshape(-1, len(self.point_names), 3)
            if self.task == "keypoints"
            else None,
            crowd=np.array(crowd, bool) if self.task == "segment" else None,
        )

    def _parse_objects(
        self, name: str, annotations: Sequence[Mapping[str, Any]]
    ) -> Iterator[tuple[Any, ...]]:
        """Yield (label, box, mask, keypoints, crowd, id) of each valid object."""
        for annotation in annotations:
            crowd = bool(annotation.get("iscrowd"))
            if crowd and self.task != "segment":
                continue
            try:
                label = self.label_of.get(annotation["category_id"])
                if label is None:
                    raise ValueError(
                        f"category_id {annotation['category_id']!r} is none of the file's "
                        "categories"
                    )
                box = _parse_box(annotation.get("bbox")) if self.task != "segment" else ()
                mask = (
                    _parse_mask(annotation.get("segmentation"))
                    if self.task in ("instances", "segment")
                    else ()
                )
                points = (
                    _parse_keypoints(annotation.get("keypoints"), len(self.point_names))
                    if self.task == "keypoints"
                    else ()
                )
            except (ValueError, TypeError, KeyError, OverflowError) as error:
                self.problems.add(f"{name}: annotation {annotation.get('id')}: {error}")
                continue
            yield label, box, mask, points, crowd, annotation.get("id", "?")


def _find_image(folders: Sequence[Path], name: str) -> Path:
    """Return the path of an image. If no folder has it, return its path in the first folder."""
    return next(
        (folder / name for folder in folders if (folder / name).is_file()), folders[0] / name
    )


def _parse_box(bbox: Any) -> list[float]:
    if not isinstance(bbox, list) or len(bbox) != 4:
        raise ValueError(f"expected bbox=[x, y, width, height], got {bbox!r}")
    x, y, width, height = (float(value) for value in bbox)
    return [x, y, x + width, y + height]


def _parse_mask(given: Any) -> Mask:
    if isinstance(given, dict) and {"size", "counts"} <= set(given):
        return {"size": [int(side) for side in given["size"]], "counts": given["counts"]}
    if not isinstance(given, list) or not given:
        raise ValueError("it has no segmentation, which this task needs")
    polygons = tuple(np.array(polygon, np.float32) for polygon in given)
    if any(polygon.ndim != 1 or len(polygon) < 6 or len(polygon) % 2 for polygon in polygons):
        raise ValueError(
            "a polygon of its segmentation has fewer than three points, or half a point"
        )
    return polygons


def _parse_keypoints(given: Any, count: int) -> np.ndarray:
    """Return keypoints (K, 3). Without `keypoints` in the annotation, none is labelled."""
    if not given:
        return np.zeros((count, 3))
    points = np.array(given, np.float64)
    if points.shape != (3 * count,):
        raise ValueError(
            f"it has {len(given)} keypoint values; expected x, y, v of the category's {count}"
        )
    return points.reshape(count, 3)


def _find_keypoint_names(categories: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    lists = {
        tuple(map(str, category["keypoints"]))
        for category in categories
        if category.get("keypoints")
    }
    if len(lists) != 1:
        raise ValueError(f"the categories name {len(lists)} lists of keypoints; expected one")
    return lists.pop()
