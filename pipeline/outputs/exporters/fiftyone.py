"""Convert a run to a folder that FiftyOne can open. FiftyOne need not be installed."""

import json
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.core.keys import key_to_path, path_to_key
from pipeline.core.output_protocols import ExportContext
from pipeline.core.tables import group_by_image
from pipeline.core.task_roles import Content
from pipeline.outputs.file_names import ImageNames, warn_of_new_names
from pipeline.outputs.row_values import list_class_names
from pipeline.outputs.text_files import JsonItemWriter, open_text_file


class FiftyOne:
    """Exporter that writes the labels and the paths of the images.

    labels.json:

        {"classes": ["dog", "cat", "stop sign"],
        "labels": {
        "desk/cat": [{"label": "dog", "confidence": 0.5, "bounding_box": [0.1, 0.1, 0.4, 0.4]}]

    data.json:

        {
        "desk/cat.jpg": "/data/photos/desk/cat.jpg"}

    A box is x, y, width, height as fractions of the image. The format is FiftyOne's
    `FiftyOneImageDetectionDataset`. For a task that classifies whole images, it is
    `FiftyOneImageClassificationDataset` with the best class of each image. To open the folder:

        fiftyone.Dataset.from_dir(
            dataset_dir=..., dataset_type=fiftyone.types.FiftyOneImageDetectionDataset)

    FiftyOne names images without suffix. So of a.jpg and a.png the second is called a.png.png. It
    looks for images in the folder data, which has links to the originals unless the user asked for
    copies.

    Masks and keypoints are not written. Export them with to=coco, which FiftyOne reads too.
    """

    holds = frozenset({"boxes", "labels", "scores"})
    image_folder = "data"

    @contextmanager
    def open(self, context: ExportContext) -> Iterator["_Writer"]:
        names = list_class_names(context.predictions_schema)
        with (
            closing(ImageNames()) as image_names,
            open_text_file(context.folder / "labels.json") as labels,
            open_text_file(context.folder / "data.json") as data,
        ):
            labels.write(f'{{"classes": {json.dumps(names, ensure_ascii=False)},\n"labels": {{')
            data.write("{")
            writer = _Writer(context, image_names, JsonItemWriter(labels), JsonItemWriter(data))
            yield writer
            labels.write("}}\n")
            data.write("}\n")
        warn_of_new_names(writer.n_renamed, "FiftyOne")


class _Writer:
    def __init__(
        self,
        context: ExportContext,
        names: ImageNames,
        labels: JsonItemWriter,
        data: JsonItemWriter,
    ) -> None:
        self.context, self.names, self.labels, self.data = context, names, labels, data
        self.n_renamed = 0
        self.has_boxes = Content.BOXES in context.contents

    def write(self, images: pa.Table, predictions: pa.Table) -> None:
        for image, rows in group_by_image(images, predictions):
            name = self.names.reserve(image["key"])
            self.n_renamed += name != image["key"]
            path = self.context.place_image(image["key"], name)
            if path.is_absolute():  # the original
                self._link(name, path)
            self.data.add(path_to_key(str(path)), name)
            sample = os.path.splitext(name)[0]  # noqa: PTH122 - FiftyOne cuts the suffix so
            if self.has_boxes:
                self.labels.add([_make_detection(row, image) for row in rows], sample)
            else:
                self.labels.add(_make_classification(rows), sample)

    def _link(self, name: str, original: Path) -> None:
        link = self.context.folder / FiftyOne.image_folder / key_to_path(name)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(original)


def _make_classification(rows: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Return the best class, which is in the first row; None if there are no rows."""
    return {"label": rows[0]["class_name"], "confidence": rows[0]["score"]} if rows else None


def _make_detection(row: dict[str, Any], image: dict[str, Any]) -> dict[str, Any]:
    width, height = image["width"], image["height"]
    box = [
        row["x_min"] / width,
        row["y_min"] / height,
        (row["x_max"] - row["x_min"]) / width,
        (row["y_max"] - row["y_min"]) / height,
    ]
    return {"label": row["class_name"], "confidence": row["score"], "bounding_box": box}
