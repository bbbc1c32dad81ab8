"""Boxes out of an export, by the format's own library where there is one that this project's tests can carry."""

import csv
import json
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from defusedxml import ElementTree
from pycocotools.coco import COCO

Found = tuple[str, str, tuple[float, ...]]  # key, class name, x_min, y_min, x_max, y_max


def coco(folder: Path) -> Iterator[Found]:
    read = COCO(str(folder / "annotations.json"))
    for one in read.anns.values():
        x, y, width, height = one["bbox"]
        yield (
            read.imgs[one["image_id"]]["file_name"],
            read.cats[one["category_id"]]["name"],
            (x, y, x + width, y + height),
        )


def yolo(folder: Path) -> Iterator[Found]:
    from supervision import DetectionDataset

    yield from _supervised(
        DetectionDataset.from_yolo(
            str(folder / "images"), str(folder / "labels"), str(folder / "data.yaml")
        )
    )


def voc(folder: Path) -> Iterator[Found]:
    paths = (str(folder / name) for name in ("JPEGImages", "Annotations"))
    yield from _supervised(_detection_dataset().from_pascal_voc(*paths))


def _detection_dataset() -> Any:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "OpenCV", UserWarning)  # it does without
        from supervision import DetectionDataset
    return DetectionDataset


def _supervised(dataset: Any) -> Iterator[Found]:
    for path, found in dataset.annotations.items():
        for xyxy, class_id in zip(found.xyxy.tolist(), found.class_id.tolist(), strict=True):
            yield Path(path).name, dataset.classes[class_id], tuple(xyxy)


def cvat(folder: Path) -> Iterator[Found]:
    """As CVAT's own importer goes through the file."""
    for _, image in ElementTree.iterparse(folder / "annotations.xml"):
        if image.tag == "image":
            for box in image.iter("box"):
                corners = tuple(float(box.attrib[side]) for side in ("xtl", "ytl", "xbr", "ybr"))
                yield image.attrib["name"], box.attrib["label"], corners
            image.clear()


def labelstudio(folder: Path) -> Iterator[Found]:
    for file in sorted(folder.glob("tasks-*.json")):
        for task in json.loads(file.read_text()):
            key = unquote(task["data"]["image"]).partition("?d=")[2].partition("/")[2]
            for one in task["predictions"][0]["result"]:
                if one["type"] == "rectanglelabels":
                    x, y, width, height = (
                        one["value"][side] / 100 for side in ("x", "y", "width", "height")
                    )
                    w, h = one["original_width"], one["original_height"]
                    yield (
                        key,
                        one["value"]["rectanglelabels"][0],
                        (x * w, y * h, (x + width) * w, (y + height) * h),
                    )


def _csv(folder: Path) -> Iterator[Found]:
    with (folder / "predictions.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            yield (
                row["key"],
                row["class_name"],
                tuple(float(row[side]) for side in ("x_min", "y_min", "x_max", "y_max")),
            )


def jsonl(folder: Path) -> Iterator[Found]:
    with (folder / "images.jsonl").open(encoding="utf-8") as file:
        for image in map(json.loads, file):
            for row in image["predictions"] or ():
                yield (
                    image["key"],
                    row["class_name"],
                    tuple(row[side] for side in ("x_min", "y_min", "x_max", "y_max")),
                )


def fiftyone(folder: Path) -> Iterator[Found]:
    """As FiftyOneImageDetectionDataset is documented; the images' sizes are theirs."""
    from PIL import Image

    labels, data = (
        json.loads((folder / f"{name}.json").read_text()) for name in ("labels", "data")
    )
    for key, found in labels["labels"].items():
        with Image.open(folder / data[key]) as image:
            w, h = image.size
        for one in found:
            x, y, width, height = one["bounding_box"]
            yield key, one["label"], (x * w, y * h, (x + width) * w, (y + height) * h)


READERS: dict[str, Callable[[Path], Iterator[Found]]] = {
    "coco": coco,
    "csv": _csv,
    "cvat": cvat,
    "fiftyone": fiftyone,
    "jsonl": jsonl,
    "labelstudio": labelstudio,
    "voc": voc,
    "yolo": yolo,
}
