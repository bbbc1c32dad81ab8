"""Convert a run to tasks for Label Studio, with predictions that people can correct there."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO
from urllib.parse import quote
from xml.etree.ElementTree import Element, SubElement, indent, tostring

import pyarrow as pa

from pipeline.core.keys import key_to_path
from pipeline.core.output_protocols import ExportContext
from pipeline.core.schema import read_name_list
from pipeline.core.tables import group_by_image
from pipeline.core.task_roles import Content
from pipeline.outputs.brush_rle import encode_brush_rle
from pipeline.outputs.file_names import replace_invalid_xml
from pipeline.outputs.row_values import clip_box, decode_row_mask, list_class_names
from pipeline.outputs.text_files import JsonItemWriter, open_text_file

# Size limit of a task file in bytes. Label Studio's own limit is 250 MB by default.
_MAX_FILE_BYTES = 100 << 20


class LabelStudio:
    """Exporter that writes task files and the project's labeling interface.

    Paste the labeling interface into the project before you import the task files.

    tasks-000.json (a new file begins after 100 MB):

        {"data": {"image": "/data/local-files/?d=photos/desk/cat.jpg", "key": "desk/cat.jpg",
          "image_id": 0},
         "predictions": [{"model_version": "run", "result": [
          {"id": "box-0", "from_name": "boxes", "type": "rectanglelabels", "image_rotation": 0,
           "score": 0.5, "value": {"x": 10.0, "width": 40.0, "y": 10.0, "height": 40.0,
           "rotation": 0, "rectanglelabels": ["dog"]},
           "to_name": "image", "original_width": 640, "original_height": 480}], "score": 0.5}]}

    labeling_config.xml:

        <RectangleLabels name="boxes" toName="image">
          <Label value="dog" />

    Boxes are rectanglelabels in percent of the image, masks are brushlabels, and keypoints are
    keypointlabels below their box. The best class of a whole image is a choice. `key` and
    `image_id` lead back to the rows of the run.

    Label Studio reads the images itself, as local files below a folder:
    LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true, LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT=<folder>.
    That is the folder above the input, whose own folder is the project's local storage. If the
    images are in the export, it is the folder above the export.
    """

    holds = frozenset({"boxes", "masks", "keypoints", "labels", "scores"})
    image_folder = "images"

    @contextmanager
    def open(self, context: ExportContext) -> Iterator["_Writer"]:
        with open_text_file(context.folder / "labeling_config.xml") as file:
            file.write(_format_config(context.predictions_schema, context.contents))
        writer = _Writer(context)
        try:
            writer.begin_file()
            yield writer
            writer.end_file()
        finally:
            writer.file.close()


def _format_config(schema: pa.Schema, contents: frozenset[Content]) -> str:
    """Format the labeling interface, with the controls that the contents of the run need."""
    view = Element("View")
    SubElement(view, "Image", name="image", value="$image", zoom="true")
    classes, points = list_class_names(schema), read_name_list(schema, "keypoint_names")
    for content, control, name, tag, values in (
        ("boxes", "RectangleLabels", "boxes", "Label", classes),
        ("masks", "BrushLabels", "masks", "Label", classes),
        ("keypoints", "KeyPointLabels", "points", "Label", points),
        ("labels", "Choices", "classes", "Choice", classes),
    ):
        if content in contents:
            parent = SubElement(view, control, name=name, toName="image")
            for i, value in enumerate(values):
                label = SubElement(parent, tag, value=replace_invalid_xml(value))
                if content == "keypoints":
                    # The order of the points, without which Label Studio exports no COCO and YOLO.
                    label.set("model_index", str(i))
    indent(view)
    return tostring(view, encoding="unicode") + "\n"


class _Writer:
    file: TextIO
    tasks: JsonItemWriter

    def __init__(self, context: ExportContext) -> None:
        self.context, self.n_files = context, 0
        self.point_names = read_name_list(context.predictions_schema, "keypoint_names")
        self.has_labels = Content.LABELS in context.contents

    def begin_file(self) -> None:
        path = self.context.folder / f"tasks-{self.n_files:03d}.json"
        self.file = path.open("w", encoding="utf-8", newline="\n")
        self.n_files += 1
        self.tasks = JsonItemWriter(self.file)
        self.file.write("[")

    def end_file(self) -> None:
        self.file.write("]\n")
        self.file.close()

    def write(self, images: pa.Table, predictions: pa.Table) -> None:
        for image, rows in group_by_image(images, predictions):
            if self.file.tell() > _MAX_FILE_BYTES:
                self.end_file()
                self.begin_file()
            self.tasks.add(self._make_task(image, rows))

    def _make_task(self, image: dict[str, Any], rows: list[dict[str, Any]]) -> dict[str, Any]:
        results = _make_choice(rows[:1]) if self.has_labels else self._make_regions(image, rows)
        frame = {
            "to_name": "image",
            "original_width": image["width"],
            "original_height": image["height"],
        }
        prediction: dict[str, Any] = {
            "model_version": self.context.run_name,
            "result": [result | frame for result in results],
        }
        if rows:
            prediction["score"] = sum(row["score"] for row in rows) / len(rows)
        return {
            "data": {
                "image": self._make_address(image["key"]),
                "key": image["key"],
                "image_id": image["image_id"],
            },
            "predictions": [prediction],
        }

    def _make_address(self, key: str) -> str:
        """Return the address at which Label Studio finds the copy, the link or the original."""
        placed = self.context.place_image(key, key)
        if placed.is_absolute():  # the original
            folder, path = self.context.image_root.name, key_to_path(key)
        else:
            folder, path = self.context.export_name, str(placed)
        return "/data/local-files/?d=" + quote(os.fsencode(folder) + b"/" + os.fsencode(path))

    def _make_regions(
        self, image: dict[str, Any], rows: list[dict[str, Any]]
    ) -> Iterator[dict[str, Any]]:
        """Yield a result for each box, mask and keypoint."""
        for i, row in enumerate(rows):
            label = replace_invalid_xml(row["class_name"])
            if "x_min" in row:
                box = _make_box(row, image)
                yield _make_result(f"box-{i}", "boxes", "rectanglelabels", label, box, row)
            if "mask_rle" in row and (mask := decode_row_mask(row)).any():
                brush = {"format": "rle", "rle": encode_brush_rle(mask)}
                yield _make_result(f"mask-{i}", "masks", "brushlabels", label, brush, row)
            if row.get("keypoints"):
                yield from self._make_points(i, row, image)

    def _make_points(
        self, i: int, row: dict[str, Any], image: dict[str, Any]
    ) -> Iterator[dict[str, Any]]:
        for name, point in zip(self.point_names, row["keypoints"], strict=True):
            value = {
                "x": _to_percent(point["x"], image["width"]),
                "y": _to_percent(point["y"], image["height"]),
                "width": 0.5,
            }
            label = replace_invalid_xml(name)
            result = _make_result(
                f"point-{i}-{name}", "points", "keypointlabels", label, value, row
            )
            yield result | {"parentID": f"box-{i}"}


def _make_choice(rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for row in rows:
        yield _make_result("class", "classes", "choices", row["class_name"], {}, row)


def _make_box(row: dict[str, Any], image: dict[str, Any]) -> dict[str, float]:
    x_min, y_min, x_max, y_max = clip_box(row, image)
    return {
        "x": _to_percent(x_min, image["width"]),
        "width": _to_percent(x_max - x_min, image["width"]),
        "y": _to_percent(y_min, image["height"]),
        "height": _to_percent(y_max - y_min, image["height"]),
        "rotation": 0,
    }


def _to_percent(pixels: float, side: int) -> float:
    """Return percent of the image's side. At most 100: Label Studio rejects 100.00000000000001."""
    return min(max(round(100 * pixels / side, 6), 0.0), 100.0)


def _make_result(
    result_id: str, control: str, kind: str, label: str, value: dict[str, Any], row: dict[str, Any]
) -> dict[str, Any]:
    return {
        "id": result_id,
        "from_name": control,
        "type": kind,
        "image_rotation": 0,
        "score": row["score"],
        "value": value | {kind: [label]},
    }
