"""Convert a run to the results file of MegaDetector, which the tools for camera traps read."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa

from pipeline.core.output_protocols import ExportContext
from pipeline.core.tables import group_by_image
from pipeline.outputs.row_values import clip_box, list_classes
from pipeline.outputs.text_files import JsonItemWriter, format_json, open_text_file

_FORMAT_VERSION = "1.5"


class MegaDetector:
    """Exporter to MegaDetector's batch results, format 1.5.

    detections.json:

        {"info": {"format_version": "1.5", "detector": "run"},
        "detection_categories": {"1": "dog", "2": "cat", "3": "stop sign"},
        "images": [
        {"file": "desk/cat.jpg", "detections": [{"category": "1", "conf": 0.5,
         "bbox": [0.1, 0.1, 0.4, 0.4]}]}]}

    `bbox` is x, y, width, height as fractions of the image. A failed image has `failure` and no
    detections. The run knows neither the date and time of a picture nor the frame number and rate
    of a video, so the optional fields for them are missing.
    """

    holds = frozenset({"boxes", "scores", "failures"})
    image_folder = "images"

    @contextmanager
    def open(self, context: ExportContext) -> Iterator["_Writer"]:
        info = {"format_version": _FORMAT_VERSION, "detector": context.run_name}
        categories = {str(i): name for i, name in list_classes(context.predictions_schema).items()}
        with open_text_file(context.folder / "detections.json") as file:
            file.write(f'{{"info": {format_json(info)},\n')
            file.write(f'"detection_categories": {format_json(categories)},\n"images": [')
            yield _Writer(context, JsonItemWriter(file))
            file.write("]}\n")


class _Writer:
    def __init__(self, context: ExportContext, images: JsonItemWriter) -> None:
        self.context, self.images = context, images

    def write(self, images: pa.Table, predictions: pa.Table) -> None:
        for image, rows in group_by_image(images, predictions):
            item: dict[str, Any] = {"file": image["key"]}
            if image["n_predictions"] is None:
                item |= {"detections": None, "failure": image["error"] or str(image["status"])}
            else:
                self.context.place_image(image["key"], image["key"])
                item["detections"] = [_make_detection(row, image) for row in rows]
            self.images.add(item)


def _make_detection(row: dict[str, Any], image: dict[str, Any]) -> dict[str, Any]:
    width, height = image["width"], image["height"]
    x_min, y_min, x_max, y_max = clip_box(row, image)
    box = (x_min / width, y_min / height, (x_max - x_min) / width, (y_max - y_min) / height)
    return {
        "category": str(row["class_id"]),
        "conf": row["score"],
        "bbox": [round(value, 6) for value in box],
    }
