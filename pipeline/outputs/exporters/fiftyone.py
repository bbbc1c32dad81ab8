"""A folder that FiftyOne opens. FiftyOne itself, which brings a database, is not needed to write it."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa

from pipeline.core.keys import path_to_key
from pipeline.core.protocols import ExportContext
from pipeline.core.tables import group_by_image
from pipeline.core.task_roles import Content
from pipeline.outputs.row_values import list_classes
from pipeline.outputs.text_files import JsonItemWriter, open_text_file


class FiftyOne:
    """Leaves labels.json and data.json (where the images are) in FiftyOne's documented format
    `FiftyOneImageDetectionDataset`, or, with the best class of each whole image, `FiftyOneImageClassificationDataset`:

    fiftyone.Dataset.from_dir(dataset_dir=..., dataset_type=fiftyone.types.FiftyOneImageDetectionDataset)

    Boxes are (x, y, width, height) as fractions of the image; `confidence` is the score. Masks and keypoints come into
    FiftyOne by to=coco, which it reads too."""

    holds = frozenset({"boxes", "labels", "scores"})
    image_folder = "images"

    @contextmanager
    def open(self, context: ExportContext) -> Iterator["_Writer"]:
        names = list(dict.fromkeys(list_classes(context.predictions_schema).values()))
        with (
            open_text_file(context.folder / "labels.json") as labels,
            open_text_file(context.folder / "data.json") as data,
        ):
            labels.write(f'{{"classes": {json.dumps(names, ensure_ascii=False)},\n"labels": {{')
            data.write("{")
            yield _Writer(context, JsonItemWriter(labels), JsonItemWriter(data))
            labels.write("}}\n")
            data.write("}\n")


class _Writer:
    def __init__(
        self, context: ExportContext, labels: JsonItemWriter, data: JsonItemWriter
    ) -> None:
        self.context, self.labels, self.data = context, labels, data
        self.boxes = Content.BOXES in context.contents

    def write(self, images: pa.Table, predictions: pa.Table) -> None:
        for image, rows in group_by_image(images, predictions):
            key = image["key"]
            self.data.add(path_to_key(str(self.context.place_image(key, key))), key)
            self.labels.add([_box(row, image) for row in rows] if self.boxes else _best(rows), key)


def _best(rows: list[dict[str, Any]]) -> dict[str, Any] | None:
    return {"label": rows[0]["class_name"], "confidence": rows[0]["score"]} if rows else None


def _box(row: dict[str, Any], image: dict[str, Any]) -> dict[str, Any]:
    width, height = image["width"], image["height"]
    sides = ((row["x_max"] - row["x_min"]) / width, (row["y_max"] - row["y_min"]) / height)
    box = [row["x_min"] / width, row["y_min"] / height, *sides]
    return {"label": row["class_name"], "confidence": row["score"], "bounding_box": box}
