"""Convert a run to JSON Lines: one line for each image, with all of its results."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

import pyarrow as pa

from pipeline.core.output_protocols import ExportContext
from pipeline.core.schema import read_name_list
from pipeline.core.tables import group_by_image
from pipeline.outputs.row_values import shorten_floats
from pipeline.outputs.text_files import format_json, open_text_file

_IMAGE_COLUMNS = {"image_id", "key"}  # left out of `predictions`, because the image has them


class Jsonl:
    """Exporter to JSON Lines.

    images.jsonl:

        {"image_id": 0, "key": "desk/cat.jpg", "width": 640, "height": 480, "status": "ok",
         "error": null, "n_predictions": 1, "predictions": [{"class_id": 1, "class_name": "dog",
         "score": 0.5, "x_min": 64.0, "y_min": 48.0, "x_max": 320.0, "y_max": 240.0}]}

    A line has the columns of `images`, and the image's rows of `predictions`. Each keypoint
    has its name. A failed image has a line with its status and error, and `predictions` is null.
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
        # Columns that a source carries, such as those of a video, are in both tables.
        repeated = _IMAGE_COLUMNS | set(images.schema.names)
        names = [name for name in predictions.schema.names if name in repeated]
        predictions = shorten_floats(predictions.drop_columns(names))

        for image, rows in group_by_image(images, predictions):
            found = None
            if image["n_predictions"] is not None:
                self.context.place_image(image["key"], image["key"])
                found = [self._name_points(row) for row in rows]
            self.file.write(format_json(image | {"predictions": found}) + "\n")

    def _name_points(self, row: dict[str, Any]) -> dict[str, Any]:
        if "keypoints" not in row:
            return row
        points = zip(self.point_names, row["keypoints"], strict=True)
        return row | {"keypoints": [{"name": name} | point for name, point in points]}
