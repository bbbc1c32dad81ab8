"""Read annotations in COCO's JSON format: images, annotations and categories."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.annotations.coco_shapes import parse_box, parse_keypoints, parse_mask
from pipeline.annotations.dataset_listing import (
    AnnotationRequest,
    DatasetListing,
    ListedImage,
    ProblemList,
    count_passed_over,
    empty_boxes,
)
from pipeline.annotations.id_index import IdIndex
from pipeline.annotations.other_formats import describe_json
from pipeline.core.background import is_background
from pipeline.core.errors import ConfigError
from pipeline.storage.named_files import NamedFiles

TASKS = frozenset({"detect", "instances", "keypoints", "segment"})
_FIELD_OF = {"masks": "segmentation", "keypoints": "keypoints"}


def read_coco(path: Path, request: AnnotationRequest, problems: ProblemList) -> DatasetListing:
    """Read a COCO file.

    Ids are numbers or texts. Annotations that belong to no image of the file, or that have no box
    although the task needs one, are passed over and noted.

    Raises:
        ConfigError: The file is not in COCO's format.
    """
    try:
        data = path.read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        content = json.loads(data, object_hook=_make_filter(request))
        del data
        other = describe_json(content)
        if other:
            raise ConfigError(f"{problems.what}: expected COCO's format.{other}")
        return _CocoReader(content, path, request, problems).build_listing(digest)
    except OSError as error:
        raise ConfigError(
            f"{problems.what}: {error.strerror}. Expected a JSON file in COCO's format."
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
            f"{problems.what}: expected COCO's format, with images, annotations and categories "
            f"({type(error).__name__}: {error})."
        ) from None


def guess_image_folders(path: Path) -> list[Path]:
    """List the folders in which the images of a COCO file may be.

    These are `images/` or `data/` beside the file, the file's own folder, and the folders that
    COCO's layout implies: there annotations/instances_val2017.json describes val2017/.
    """
    named = path.stem.rpartition("_")[2]
    above = path.parent.parent
    return [
        path.parent / "images",
        path.parent,
        above / named,
        above / "images" / named,
        path.parent / "data",
        above / "images",
        *([above] if path.parent.name.casefold() == "annotations" else []),
    ]


def _make_filter(request: AnnotationRequest) -> Any:
    """Return an object hook that drops the shapes which the task does not need.

    They are most of a large file, and dropping them while it is parsed keeps memory small.
    """
    unneeded = [name for shape, name in _FIELD_OF.items() if shape not in request.shapes]

    def drop(found: dict[str, Any]) -> dict[str, Any]:
        if "image_id" in found:
            for name in unneeded:
                found.pop(name, None)
        return found

    return drop if unneeded else None


class _CocoReader:
    def __init__(
        self,
        content: Mapping[str, Any],
        path: Path,
        request: AnnotationRequest,
        problems: ProblemList,
    ) -> None:
        self.content, self.path, self.request, self.problems = content, path, request, problems
        every = content["categories"]
        self.categories = IdIndex((one["id"] for one in every), "categories")
        real = [i for i in self.categories.order() if not is_background(str(every[i]["name"]))]
        self.names = tuple(str(every[i]["name"]) for i in real)
        if len(set(self.names)) < len(real):
            raise ValueError("two categories have one name")
        self.class_ids = tuple(self.categories.ids[i] for i in real)
        self.label_of = {position: label for label, position in enumerate(real)}
        self.point_names = (
            _find_keypoint_names(every, request.training) if "keypoints" in request.shapes else ()
        )
        self.boxless: list[str] = []
        self.of_background: list[str] = []

    def build_listing(self, digest: str) -> DatasetListing:
        images = self.content["images"]
        index = IdIndex((image["id"] for image in images), "images")
        # Our own exports give the `key` of an image that has another name there. The run that is
        # evaluated has the key; training finds the file by its name.
        field = "file_name" if self.request.training else "key"
        names = [_read_file_name(image, field) for image in images]
        annotations: list[list[Mapping[str, Any]]] = [[] for _ in images]
        orphans = []
        for annotation in self.content["annotations"]:
            position = index.find(annotation["image_id"])
            if position is None:
                orphans.append(
                    f"annotation {annotation.get('id')} (image_id {annotation['image_id']!r})"
                )
            else:
                annotations[position].append(annotation)
        if orphans and not any(annotations):
            raise ValueError(f"no annotation is of an image that it lists: {orphans[0]}")

        paths = self._locate(names)
        listed = [
            self._list_image(image, index.ids[i], names[i], paths[i], annotations[i])
            for i, image in enumerate(images)
        ]
        if not self.request.training:  # in the order of pycocotools
            listed = [listed[i] for i in index.order()]
        notes = [
            *count_passed_over(
                "annotations are of images that the file does not list; they are passed over",
                orphans,
            ),
            *count_passed_over("annotations have no box; they are passed over", self.boxless),
            *count_passed_over(
                "annotations are of the background; they are passed over", self.of_background
            ),
        ]
        return DatasetListing(
            self.names, {"train": listed}, digest, self.point_names, self.class_ids, tuple(notes)
        )

    def _locate(self, names: Sequence[str]) -> list[Path]:
        """Return the paths of the images; a path where an image should be if it is not found."""
        if not self.request.training:  # evaluation compares names and needs no files
            return [Path(name.replace("\0", "")) for name in names]
        own, given = guess_image_folders(self.path), self.request.images
        folders = own if given is None else [*own, given] if self.request.others else [given]
        files = NamedFiles(folders)
        paths = []
        for name in names:
            try:
                path = files.find_own(name)
            except ConfigError as error:
                self.problems.add(f"{name}: {error}")
                path = None
            paths.append(path or folders[0] / name.replace("\0", ""))
        return paths

    def _list_image(
        self,
        image: Mapping[str, Any],
        image_id: Any,
        name: str,
        path: Path,
        annotations: Sequence[Mapping[str, Any]],
    ) -> ListedImage:
        height, width = (int(float(image.get(side) or 0)) for side in ("height", "width"))
        objects = list(self._parse_objects(name, annotations))
        labels, boxes, masks, points, crowd, areas, ids = (
            zip(*objects, strict=True) if objects else ((),) * 7
        )
        shapes = self.request.shapes
        return ListedImage(
            name=name,
            path=path,
            labels=np.array(labels, np.int64),
            boxes_xyxy=np.array(boxes, np.float64).reshape(-1, 4)
            if "boxes" in shapes
            else empty_boxes(),
            ids=ids,
            id_kind="annotation",
            size_hw=(height, width) if height > 0 and width > 0 else None,
            masks=masks if "masks" in shapes else None,
            keypoints=np.array(points, np.float64).reshape(-1, len(self.point_names), 3)
            if self.point_names
            else None,
            crowd=np.array(crowd, bool) if self.request.crowds else None,
            areas=None if self.request.training else np.array(areas, np.float64),
        )

    def _parse_objects(
        self, name: str, annotations: Sequence[Mapping[str, Any]]
    ) -> Iterator[tuple[Any, ...]]:
        """Yield (label, box, mask, keypoints, crowd, area, id) of each valid object."""
        shapes = self.request.shapes
        # The only annotation of an image may have no box: some programs write such annotations for
        # images without objects.
        needed = self.request.training and len(annotations) > 1
        for annotation in annotations:
            named = f"annotation {annotation.get('id')}"
            try:
                crowd = bool(float(annotation.get("iscrowd") or 0))
                if crowd and not self.request.crowds:
                    continue
                mask = parse_mask(annotation.get("segmentation")) if "masks" in shapes else None
                box = parse_box(annotation.get("bbox"), mask, needed) if "boxes" in shapes else ()
                if box is None:
                    self.boxless.append(f"{named} of {name}")
                    continue
                position = self.categories.find(annotation["category_id"])
                if position is None:
                    raise ValueError(
                        f"category_id {annotation['category_id']!r} is none of the file's "
                        "categories"
                    )
                if position not in self.label_of:
                    self.of_background.append(f"{named} of {name}")
                    continue
                points = (
                    parse_keypoints(annotation.get("keypoints"), len(self.point_names))
                    if self.point_names
                    else ()
                )
                area = np.nan if annotation.get("area") is None else float(annotation["area"])
            except (ValueError, TypeError, KeyError, OverflowError) as error:
                self.problems.add(f"{name}: {named}: {error}")
                continue
            yield self.label_of[position], box, mask, points, crowd, area, annotation.get("id", "?")


def _read_file_name(image: Mapping[str, Any], field: str) -> str:
    """Return the name in this field, or in `file_name` if the image does not have the field."""
    name = image.get(field) or image["file_name"]
    if not isinstance(name, str) or not name:
        raise ValueError(f"image {image['id']!r} has the file_name {name!r}")
    return name


def _find_keypoint_names(categories: Sequence[Mapping[str, Any]], needed: bool) -> tuple[str, ...]:
    lists = {
        tuple(map(str, category["keypoints"]))
        for category in categories
        if category.get("keypoints")
    }
    if len(lists) > 1 or (needed and not lists):
        raise ValueError(f"the categories name {len(lists)} lists of keypoints; expected one")
    return lists.pop() if lists else ()
