"""Convert a run to COCO's annotation format."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryFile
from typing import Any, TextIO

import pyarrow as pa
from pycocotools import mask as coco_mask

from pipeline.core.protocols import ExportContext
from pipeline.core.schema import read_categories, read_name_list
from pipeline.core.tables import group_by_image
from pipeline.ops.filters import PLACEHOLDERS


class Coco:
    """Exporter to COCO's annotation format.

    annotations.json:

        {"categories": [{"id": 1, "name": "dog", "supercategory": ""},
        ...
        "images": [
        {"id": 0, "file_name": "desk/cat.jpg", "width": 640, "height": 480}],
        "annotations": [
        {"id": 1, "image_id": 0, "category_id": 1, "score": 0.5, "iscrowd": 0,
         "bbox": [64.0, 48.0, 256.0, 192.0], "area": 49152.0}]}

    Image ids are the run's image_id, category ids the model's class ids, and file names the keys.
    `bbox` is x, y, width, height in pixels of the upright image. Masks are compressed RLE in
    `segmentation`. `keypoints` has x, y, v for each point. v is 2 for a point that is probably
    visible (score above 0), else 1.
    """

    holds = frozenset({"boxes", "masks", "keypoints", "scores"})
    image_folder = "images"

    @contextmanager
    def open(self, context: ExportContext) -> Iterator["_Writer"]:
        with (
            (context.folder / "annotations.json").open("w", encoding="utf-8") as file,
            # The file has all images before all annotations, but a run is read only once. So the
            # annotations are collected in an unnamed temporary file.
            TemporaryFile("w+", encoding="utf-8", dir=context.folder) as annotations,
        ):
            categories = json.dumps(_list_categories(context.predictions_schema))
            file.write(f'{{"categories": {categories},\n"images": [')
            yield _Writer(context, file, annotations)
            file.write('],\n"annotations": [')
            annotations.seek(0)
            shutil.copyfileobj(annotations, file)
            file.write("]}\n")


class _Writer:
    def __init__(self, context: ExportContext, images: TextIO, annotations: TextIO) -> None:
        self.context, self.images, self.annotations = context, images, annotations
        self.n_images = self.n_annotations = 0

    def write(self, images: pa.Table, predictions: pa.Table) -> None:
        for image, rows in group_by_image(images, predictions):
            self.context.place_image(image["key"], image["key"])
            item = {
                "id": image["image_id"],
                "file_name": image["key"],
                "width": image["width"],
                "height": image["height"],
            }
            _write_item(self.images, item, is_first=self.n_images == 0)
            self.n_images += 1

            for row in rows:
                annotation = _make_annotation(row, self.n_annotations + 1)
                _write_item(self.annotations, annotation, is_first=self.n_annotations == 0)
                self.n_annotations += 1


def _write_item(file: TextIO, item: dict[str, Any], is_first: bool) -> None:
    file.write(("\n" if is_first else ",\n") + json.dumps(item, ensure_ascii=False))


def _make_annotation(row: dict[str, Any], annotation_id: int) -> dict[str, Any]:
    annotation: dict[str, Any] = {
        "id": annotation_id,
        "image_id": row["image_id"],
        "category_id": row["class_id"],
        "score": row["score"],
        "iscrowd": 0,
    }
    if "x_min" in row:
        width, height = row["x_max"] - row["x_min"], row["y_max"] - row["y_min"]
        annotation["bbox"] = [row["x_min"], row["y_min"], width, height]
        annotation["area"] = width * height
    if "mask_rle" in row:
        mask = {"size": [row["mask_height"], row["mask_width"]], "counts": row["mask_rle"]}
        annotation["segmentation"] = mask
        annotation["area"] = float(coco_mask.area(mask))  # instead of the box's area
        if "bbox" not in annotation:
            annotation["bbox"] = coco_mask.toBbox(mask).tolist()
    if "keypoints" in row:
        annotation["keypoints"] = [
            value
            for point in row["keypoints"]
            for value in (point["x"], point["y"], 2 if point["score"] > 0 else 1)
        ]
        annotation["num_keypoints"] = len(row["keypoints"])
    return annotation


def _list_categories(schema: pa.Schema) -> list[dict[str, Any]]:
    points = read_name_list(schema, "keypoint_names")
    point_fields: dict[str, Any] = {"keypoints": points, "skeleton": []} if points else {}
    return [
        {"id": i, "name": name, "supercategory": "", **point_fields}
        for i, name in enumerate(read_categories(schema))
        if name not in PLACEHOLDERS
    ]
