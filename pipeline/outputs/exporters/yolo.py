"""The layout of Ultralytics' YOLO: a text file for each image."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import yaml

from pipeline.core.errors import ConfigError
from pipeline.core.protocols import ExportContext
from pipeline.core.schema import read_name_list
from pipeline.core.tables import group_by_image
from pipeline.outputs.file_names import reserve_label_file
from pipeline.outputs.row_values import clip_box, list_classes
from pipeline.outputs.text_files import open_text_file

log = logging.getLogger(__name__)
_RENAMED = (
    "%s images are called otherwise there, because YOLO could not tell them apart; images=link or images=copy puts them "
    "under these names."
)
_SIDES = (("left", "right"), ("Left", "Right"))


class Yolo:
    """Leaves data.yaml and labels/<the input's name>.txt, empty where nothing was found, for images/ beside it. A line is
    `class x y width height`, the box's centre and size as fractions of the image; with keypoints, `x y v` of each follow, v
    being 2 for points that are more likely there than not and 1 for the others. The class is the place in data.yaml's
    `names`, counted from 0, not the model's own id. Boxes and points are cut to the image: YOLO refuses others.

    YOLO finds an image's labels by its name without the extension, and by the last folder `images` in its path. Inputs that
    differ only by extension therefore keep theirs in the name (a.png.txt, for images/a.png.png), and a folder `images` of
    the input becomes `images_`.
    """

    holds = frozenset({"boxes", "keypoints"})
    image_folder = "images"

    @contextmanager
    def open(self, context: ExportContext) -> Iterator["_Writer"]:
        (context.folder / "labels").mkdir()
        with open_text_file(context.folder / "data.yaml") as file:
            yaml.safe_dump(
                _data(context.predictions_schema), file, sort_keys=False, allow_unicode=True
            )
        writer = _Writer(context)
        yield writer
        if writer.renamed:
            log.warning(_RENAMED, f"{writer.renamed:,}")


class _Writer:
    def __init__(self, context: ExportContext) -> None:
        self.context = context
        self.numbers = {
            class_id: i for i, class_id in enumerate(list_classes(context.predictions_schema))
        }
        self.renamed = 0

    def write(self, images: pa.Table, predictions: pa.Table) -> None:
        for image, rows in group_by_image(images, predictions):
            key = PurePosixPath(image["key"])
            name, labels = reserve_label_file(
                self.context.folder / "labels", _without_images(image["key"]), ".txt"
            )
            self.context.place_image(image["key"], name + key.suffix)
            self.renamed += name + key.suffix != image["key"]
            with open_text_file(labels) as file:
                file.writelines(f"{self._number(row)} {_values(row, image)}\n" for row in rows)

    def _number(self, row: dict[str, Any]) -> int:
        if row["class_id"] not in self.numbers:
            raise ConfigError(
                f"to=yolo: {row['key']} has a prediction of class id {row['class_id']}, {row['class_name']!r}, which stands "
                "for no class. A trained model has none of these; to=jsonl holds them."
            )
        return self.numbers[row["class_id"]]


def _without_images(key: str) -> str:
    *folders, name = key.split("/")
    return "/".join([*("images_" if folder == "images" else folder for folder in folders), name])


def _values(row: dict[str, Any], image: dict[str, Any]) -> str:
    width, height = image["width"], image["height"]
    x_min, y_min, x_max, y_max = clip_box(row, image)
    box = (
        (x_min + x_max) / 2 / width,
        (y_min + y_max) / 2 / height,
        (x_max - x_min) / width,
        (y_max - y_min) / height,
    )
    values = [f"{value:.8f}" for value in box]  # of 100,000 pixels, a thousandth of one
    for point in row.get("keypoints", ()):
        x, y = min(max(point["x"], 0.0), width), min(max(point["y"], 0.0), height)
        values += [f"{x / width:.8f}", f"{y / height:.8f}", "2" if point["score"] > 0 else "1"]
    return " ".join(values)


def _data(schema: pa.Schema) -> dict[str, Any]:
    """data.yaml. Without `path`, what is in it is relative to its own folder."""
    points = read_name_list(schema, "keypoint_names")
    data: dict[str, Any] = {
        "train": "images",
        "val": "images",
    }  # a run has no split; YOLO wants both named
    if points:
        data |= {"kpt_shape": [len(points), 3], "flip_idx": _mirrored(points)}
    return data | {"names": dict(enumerate(list_classes(schema).values()))}


def _mirrored(names: Sequence[str]) -> list[int]:
    """Which point each becomes in the mirror image: left_eye the right one."""

    def other(name: str) -> str:
        for left, right in _SIDES:
            if left in name or right in name:
                return name.replace(left, right) if left in name else name.replace(right, left)
        return name

    return [names.index(other(name)) if other(name) in names else i for i, name in enumerate(names)]
