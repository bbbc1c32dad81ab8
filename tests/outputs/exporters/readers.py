"""Read boxes from exports, with the format's own library where it is small enough to install."""

import csv
import json
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from defusedxml import ElementTree
from PIL import Image
from pycocotools.coco import COCO

Found = tuple[str, str, tuple[float, ...]]  # key, class name, x_min, y_min, x_max, y_max


def read_coco(folder: Path) -> Iterator[Found]:
    read = COCO(str(folder / "annotations.json"))
    for one in read.anns.values():
        x, y, width, height = one["bbox"]
        yield (
            read.imgs[one["image_id"]]["file_name"],
            read.cats[one["category_id"]]["name"],
            (x, y, x + width, y + height),
        )


def read_yolo(folder: Path) -> Iterator[Found]:
    from supervision import DetectionDataset

    yield from _supervised(
        DetectionDataset.from_yolo(
            str(folder / "images"), str(folder / "labels"), str(folder / "data.yaml")
        )
    )


def read_voc(folder: Path) -> Iterator[Found]:
    paths = (str(folder / name) for name in ("JPEGImages", "Annotations"))
    yield from _supervised(_detection_dataset().from_pascal_voc(*paths))


def _detection_dataset() -> Any:
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", "OpenCV", UserWarning
        )  # the library also works without OpenCV
        from supervision import DetectionDataset
    return DetectionDataset


def _supervised(dataset: Any) -> Iterator[Found]:
    for path, found in dataset.annotations.items():
        for xyxy, class_id in zip(found.xyxy.tolist(), found.class_id.tolist(), strict=True):
            yield Path(path).name, dataset.classes[class_id], tuple(xyxy)


def read_cvat(folder: Path) -> Iterator[Found]:
    """Read the file as CVAT's importer does."""
    for _, image in ElementTree.iterparse(folder / "annotations.xml"):
        if image.tag == "image":
            for box in image.iter("box"):
                corners = tuple(float(box.attrib[side]) for side in ("xtl", "ytl", "xbr", "ybr"))
                yield image.attrib["name"], box.attrib["label"], corners
            image.clear()


def read_labelstudio(folder: Path) -> Iterator[Found]:
    for file in sorted(folder.glob("tasks-*.json")):
        for task in json.loads(file.read_text()):
            key = task["data"]["key"]
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


def read_jsonl(folder: Path) -> Iterator[Found]:
    with (folder / "images.jsonl").open(encoding="utf-8") as file:
        for image in map(json.loads, file):
            for row in image["predictions"] or ():
                yield (
                    image["key"],
                    row["class_name"],
                    tuple(row[side] for side in ("x_min", "y_min", "x_max", "y_max")),
                )


def read_fiftyone(folder: Path) -> Iterator[Found]:
    """Read the files as FiftyOneImageDetectionDataset is documented, with sizes of the images."""
    labels, data = (
        json.loads((folder / f"{name}.json").read_text()) for name in ("labels", "data")
    )
    path_of = {str(PurePosixPath(name).with_suffix("")): name for name in data}
    for sample, found in labels["labels"].items():
        key = path_of[sample]
        with Image.open(folder / data[key]) as image:
            w, h = image.size
        for one in found:
            x, y, width, height = one["bounding_box"]
            yield key, one["label"], (x * w, y * h, (x + width) * w, (y + height) * h)


def read_megadetector(folder: Path) -> Iterator[Found]:
    read = json.loads((folder / "detections.json").read_text())
    for image in read["images"]:
        with Image.open(folder / "images" / image["file"]) as opened:
            w, h = opened.size
        for one in image["detections"]:
            x, y, width, height = one["bbox"]
            yield (
                image["file"],
                read["detection_categories"][one["category"]],
                (x * w, y * h, (x + width) * w, (y + height) * h),
            )


READERS: dict[str, Callable[[Path], Iterator[Found]]] = {
    "coco": read_coco,
    "csv": _csv,
    "cvat": read_cvat,
    "fiftyone": read_fiftyone,
    "jsonl": read_jsonl,
    "labelstudio": read_labelstudio,
    "megadetector": read_megadetector,
    "voc": read_voc,
    "yolo": read_yolo,
}
