"""JSON Lines: everything that a run has found, a line for each image."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

import pyarrow as pa

from pipeline.core.protocols import ExportContext
from pipeline.core.schema import read_name_list
from pipeline.core.tables import group_by_image
from pipeline.outputs.row_values import shorten_floats
from pipeline.outputs.text_files import format_json, open_text_file

_SAID_ONCE = ("image_id", "key")


class Jsonl:
    """Leaves images.jsonl: a line has the columns of `images` and, as the list `predictions`, those of its rows; keypoints
    with their names. Failed images have their lines too, with their status, their error, and null for `predictions`.

    {"image_id": 0, "key": "a.jpg", "width": 640, "height": 480, "status": "ok", "error": null, "n_predictions": 1,
    "predictions": [{"class_id": 1, "class_name": "dog", "score": 0.9, "x_min": 1.5, ...}]}
    """

    holds = frozenset(
        {
            "boxes",
            "masks",
            "keypoints",
            "labels",
            "further classes",
            "scores",
            "embeddings",
            "failures",
        }
    )
    image_folder = "images"

    @contextmanager
    def open(self, context: ExportContext) -> Iterator["_Writer"]:
        with open_text_file(context.folder / "images.jsonl") as file:
            yield _Writer(context, file)


class _Writer:
    def __init__(self, context: ExportContext, file: TextIO) -> None:
        self.context, self.file = context, file
        self.point_names = read_name_list(context.predictions_schema, "keypoint_names")

    def write(self, images: pa.Table, predictions: pa.Table) -> None:
        carried = set(images.schema.names) - set(
            _SAID_ONCE
        )  # a video's columns, which are in both tables
        mine = predictions.drop_columns(
            [name for name in predictions.schema.names if name in {*carried, *_SAID_ONCE}]
        )
        for image, rows in group_by_image(images, shorten_floats(mine)):
            if image["n_predictions"] is not None:
                self.context.place_image(image["key"], image["key"])
            found = (
                [self._named(row) for row in rows] if image["n_predictions"] is not None else None
            )
            self.file.write(format_json(image | {"predictions": found}) + "\n")

    def _named(self, row: dict[str, Any]) -> dict[str, Any]:
        if "keypoints" not in row:
            return row
        named = zip(self.point_names, row["keypoints"], strict=True)
        return row | {"keypoints": [{"name": name} | point for name, point in named]}
