"""Tasks for Label Studio with pre-annotations: what people correct instead of drawing it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO
from urllib.parse import quote
from xml.etree.ElementTree import Element, SubElement, indent, tostring

import numpy as np
import pyarrow as pa

from pipeline.core.keys import key_to_path
from pipeline.core.protocols import ExportContext
from pipeline.core.schema import read_name_list
from pipeline.core.tables import group_by_image
from pipeline.core.task_roles import Content
from pipeline.outputs.file_names import replace_invalid_xml
from pipeline.outputs.row_values import clip_box, decode_row_mask, encode_run_lengths, list_classes
from pipeline.outputs.text_files import JsonItemWriter, open_text_file

_LARGEST = (
    100 << 20
)  # bytes of a file of tasks; Label Studio's import takes 250 MB unless told otherwise
_WORD = 8  # bits of a value in its run-length encoding
_RUN_BITS = (3, 4, 8, 16)  # and of a run's length: the fewest of these that hold it


class LabelStudio:
    """Leaves tasks-000.json, tasks-001.json ... (a new one after 100 MB), to be imported, and labeling_config.xml, to be
    pasted as the project's labeling interface before. Boxes are rectanglelabels in percent, masks brushlabels, keypoints
    keypointlabels under their box; of the classes of a whole image the best one is the choice.

    Images are read by Label Studio itself, as local files below the input folder's parent:
    LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true, LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT=<that parent>, and the input folder
    as the project's local storage."""

    holds = frozenset({"boxes", "masks", "keypoints", "labels", "scores"})
    image_folder = "images"

    @contextmanager
    def open(self, context: ExportContext) -> Iterator["_Writer"]:
        with open_text_file(context.folder / "labeling_config.xml") as file:
            file.write(_labeling_config(context.predictions_schema, context.contents))
        writer = _Writer(context)
        try:
            writer.begin_file()
            yield writer
            writer.end_file()
        finally:
            writer.file.close()


def _labeling_config(schema: pa.Schema, contents: frozenset[Content]) -> str:
    view = Element("View")
    SubElement(view, "Image", name="image", value="$image", zoom="true")
    classes = list(dict.fromkeys(list_classes(schema).values()))
    for content, control, name, of, values in (
        ("boxes", "RectangleLabels", "boxes", "Label", classes),
        ("masks", "BrushLabels", "masks", "Label", classes),
        (
            "keypoints",
            "KeyPointLabels",
            "points",
            "Label",
            read_name_list(schema, "keypoint_names"),
        ),
        ("labels", "Choices", "classes", "Choice", classes),
    ):
        if content in contents:
            parent = SubElement(view, control, name=name, toName="image")
            for value in values:
                SubElement(parent, of, value=replace_invalid_xml(value))
    indent(view)
    return tostring(view, encoding="unicode") + "\n"


class _Writer:
    file: TextIO
    tasks: JsonItemWriter

    def __init__(self, context: ExportContext) -> None:
        self.context, self.files = context, 0
        self.point_names = read_name_list(context.predictions_schema, "keypoint_names")
        self.whole_images = Content.LABELS in context.contents

    def begin_file(self) -> None:
        self.file = (self.context.folder / f"tasks-{self.files:03d}.json").open(
            "w", encoding="utf-8", newline="\n"
        )
        self.files += 1
        self.tasks = JsonItemWriter(self.file)
        self.file.write("[")

    def end_file(self) -> None:
        self.file.write("]\n")
        self.file.close()

    def write(self, images: pa.Table, predictions: pa.Table) -> None:
        for image, rows in group_by_image(images, predictions):
            if self.file.tell() > _LARGEST:
                self.end_file()
                self.begin_file()
            self.context.place_image(image["key"], image["key"])
            self.tasks.add(self._task(image, rows))

    def _task(self, image: dict[str, Any], rows: list[dict[str, Any]]) -> dict[str, Any]:
        path = (
            os.fsencode(self.context.image_root.name)
            + b"/"
            + os.fsencode(key_to_path(image["key"]))
        )
        results = self._choice(rows) if self.whole_images else self._regions(image, rows)
        frame = {
            "to_name": "image",
            "original_width": image["width"],
            "original_height": image["height"],
        }
        scores = {"score": sum(row["score"] for row in rows) / len(rows)} if rows else {}
        prediction = {
            "model_version": self.context.run_name,
            "result": [one | frame for one in results],
        } | scores
        return {
            "data": {"image": f"/data/local-files/?d={quote(path)}"},
            "predictions": [prediction],
        }

    def _choice(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [
            _result("class", "classes", "choices", [row["class_name"]], {}, row) for row in rows[:1]
        ]

    def _regions(
        self, image: dict[str, Any], rows: list[dict[str, Any]]
    ) -> Iterator[dict[str, Any]]:
        for i, row in enumerate(rows):
            label = [replace_invalid_xml(row["class_name"])]
            if "x_min" in row:
                yield _result(f"box-{i}", "boxes", "rectanglelabels", label, _box(row, image), row)
            if "mask_rle" in row and (mask := decode_row_mask(row)).any():
                yield _result(
                    f"mask-{i}",
                    "masks",
                    "brushlabels",
                    label,
                    {"format": "rle", "rle": brush_rle(mask)},
                    row,
                )
            for name, point in zip(
                self.point_names, row.get("keypoints", ()), strict=bool(row.get("keypoints"))
            ):
                place = {
                    "x": _percent(point["x"], image["width"]),
                    "y": _percent(point["y"], image["height"]),
                    "width": 0.5,
                }
                one = _result(
                    f"point-{i}-{name}",
                    "points",
                    "keypointlabels",
                    [replace_invalid_xml(name)],
                    place,
                    row,
                )
                yield one | {"parentID": f"box-{i}"}


def _box(row: dict[str, Any], image: dict[str, Any]) -> dict[str, float]:
    x_min, y_min, x_max, y_max = clip_box(row, image)
    x = {"x": _percent(x_min, image["width"]), "width": _percent(x_max - x_min, image["width"])}
    return x | {
        "y": _percent(y_min, image["height"]),
        "height": _percent(y_max - y_min, image["height"]),
        "rotation": 0,
    }


def _percent(pixels: float, of: int) -> float:
    """Of the image's side, within it: Label Studio refuses a task with 100.00000000000001."""
    return min(max(round(100 * pixels / of, 6), 0.0), 100.0)


def _result(
    name: str,
    control: str,
    kind: str,
    labels: list[str],
    value: dict[str, Any],
    row: dict[str, Any],
) -> dict[str, Any]:
    one = {
        "id": name,
        "from_name": control,
        "type": kind,
        "image_rotation": 0,
        "score": row["score"],
    }
    return one | {"value": value | {kind: labels}}


def brush_rle(mask: np.ndarray) -> list[int]:
    """(H, W) bool -> bytes. Label Studio packs the mask's RGBA image, 0 or 255 in all four, row by row, with thi.ng's
    rle-pack: 32 bits for the number of values, 5 for the bits of a value less 1, four times 4 for the bits of a length less
    1; then for each run a 1, two bits for which of these, the length less 1, and the value."""
    bits = [f"{4 * mask.size:032b}{_WORD - 1:05b}", *(f"{size - 1:04b}" for size in _RUN_BITS)]
    for i, length in enumerate(encode_run_lengths(mask.ravel())):
        value = "1" * _WORD if i % 2 else "0" * _WORD
        left = 4 * length
        while left:
            run = min(left, 1 << _RUN_BITS[-1])
            which = next(which for which, size in enumerate(_RUN_BITS) if run <= 1 << size)
            bits.append(f"1{which:02b}{run - 1:0{_RUN_BITS[which]}b}{value}")
            left -= run
    packed = "".join(bits)
    packed += "0" * (8 - len(packed) % 8)  # one to eight, as its own library does
    return list(int(packed, 2).to_bytes(len(packed) // 8, "big"))
