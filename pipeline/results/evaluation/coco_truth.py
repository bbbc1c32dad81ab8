"""Read annotations in COCO's format.

Content that would make pycocotools fail is completed or refused.
"""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.core.errors import ConfigError

_COPIED = ("segmentation", "keypoints")


@dataclass(frozen=True)
class CocoTruth:
    """Annotations grouped by image, in the order of the images' ids.

    Each annotation is a dict in the format of pycocotools.
    """

    names: tuple[str, ...]  # file names of the images
    sizes_hw: np.ndarray  # (images, 2) int64 pixels, -1 if the file does not state the size
    annotations: tuple[list[dict[str, Any]], ...]  # by image; `category_id` as in the file
    categories: Mapping[int, str]
    keypoint_names: tuple[str, ...]  # empty if the file names no keypoints

    @property
    def holds(self) -> frozenset[str]:
        """The kinds of shapes that every annotation has."""
        every = [annotation for image in self.annotations for annotation in image]
        columns = {"boxes": "bbox", "masks": "segmentation", "keypoints": "keypoints"}
        return frozenset(
            name
            for name, column in columns.items()
            if every and all(column in annotation for annotation in every)
        )


def read_coco_truth(path: Path) -> CocoTruth:
    """Read a file in COCO's format.

    Raises:
        ConfigError: the file cannot be read, or it is not in COCO's format.
    """
    try:
        content = json.loads(path.read_bytes())
        return _truth(content)
    except OSError as error:
        raise ConfigError(
            f"truth={path}: {error.strerror}. Expected a JSON file in COCO's format."
        ) from None
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise ConfigError(
            f"truth={path}: expected COCO's format, with images, annotations and categories "
            f"({type(error).__name__}: {error})."
        ) from None


def _truth(content: dict[str, Any]) -> CocoTruth:
    """Check and convert the content of a file in COCO's format."""
    images = sorted(content["images"], key=lambda image: int(image["id"]))
    number_of = {int(image["id"]): number for number, image in enumerate(images)}
    names = tuple(str(image["file_name"]) for image in images)
    twice = [name for name, times in Counter(names).items() if times > 1]
    if len(number_of) < len(images) or twice:
        raise ValueError(
            f"two images have one id or one file_name{f', {twice[0]!r}' if twice else ''}"
        )
    categories = {int(one["id"]): str(one["name"]) for one in content["categories"]}
    annotations: tuple[list[dict[str, Any]], ...] = tuple([] for _ in images)
    sizes = [[int(image.get(side) or -1) for side in ("height", "width")] for image in images]
    for given in content["annotations"]:
        number = number_of[int(given["image_id"])]
        annotations[number].append(_annotation(given, categories, sizes[number]))
    points = next((one["keypoints"] for one in content["categories"] if one.get("keypoints")), ())
    if any(
        len(one.get("keypoints", ())) not in (0, 3 * len(points))
        for image in annotations
        for one in image
    ):
        raise ValueError(
            f"an annotation has not the {len(points)} keypoints that the categories name"
        )
    return CocoTruth(names, np.array(sizes).reshape(-1, 2), annotations, categories, tuple(points))


def _annotation(
    given: Mapping[str, Any], categories: Mapping[int, str], size_hw: list[int]
) -> dict[str, Any]:
    """Return the fields of an annotation that the evaluation needs.

    `area` and `num_keypoints` are computed if the file does not contain them.

    Raises:
        ValueError: the annotation contradicts its image or the categories.
    """
    if int(given["category_id"]) not in categories:
        raise ValueError(f"category_id {given['category_id']} is no category")
    box = [float(value) for value in given["bbox"]]
    _, _, width, height = box
    one: dict[str, Any] = {
        "category_id": int(given["category_id"]),
        "bbox": box,
        "iscrowd": int(given.get("iscrowd") or 0),
    }
    one["area"] = float(given.get("area", width * height))
    one |= {name: given[name] for name in _COPIED if given.get(name)}
    mask = one.get("segmentation", ())
    if isinstance(mask, dict) and size_hw[0] > 0 and list(mask["size"]) != size_hw:
        raise ValueError(
            f"annotation {given.get('id')} has a mask of another size (height, width) than its "
            "image"
        )
    if isinstance(mask, list) and any(len(polygon) < 4 or len(polygon) % 2 for polygon in mask):
        raise ValueError(
            f"annotation {given.get('id')} has a polygon with no area, or half a point"
        )
    if "keypoints" in one:
        one["num_keypoints"] = int(
            given.get("num_keypoints", sum(value > 0 for value in one["keypoints"][2::3]))
        )
    return one
