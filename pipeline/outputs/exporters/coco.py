"""COCO's annotation format."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryFile
from typing import Any, TextIO

import pyarrow as pa

from pipeline.core.protocols import ExportContext
from pipeline.core.schema import read_categories, read_name_list
from pipeline.core.tables import group_by_image
from pipeline.ops.filters import PLACEHOLDERS


class Coco:
    """Leaves annotations.json: `images` (id: the run's image_id, file_name: the key), `categories` (id: the model's own
    class id), and `annotations` with `score`: bbox as (x, y, width, height) in pixels of the upright image, masks as
    compressed RLE, keypoints as (x, y, v), where v is 2 for points that are more likely there than not and 1 for the
    others."""

    holds = frozenset({"boxes", "masks", "keypoints", "scores"})
    image_folder = "images"

    @contextmanager
    def open(self, context: ExportContext) -> Iterator["_Writer"]:
        with (
            (context.folder / "annotations.json").open("w", encoding="utf-8") as file,
            # images and annotations are two lists, and a run is read once: the second waits in an unnamed file
            TemporaryFile("w+", encoding="utf-8", dir=context.folder) as annotations,
        ):
            file.write(
                f'{{"categories": {json.dumps(_categories(context.predictions_schema))},\n"images": ['
            )
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
            size = {"width": image["width"], "height": image["height"]}
            self._append(
                self.images,
                self.n_images,
                {"id": image["image_id"], "file_name": image["key"], **size},
            )
            self.n_images += 1
            for row in rows:
                self._append(
                    self.annotations, self.n_annotations, _annotation(row, self.n_annotations + 1)
                )
                self.n_annotations += 1

    def _append(self, file: TextIO, before: int, one: dict[str, Any]) -> None:
        file.write((",\n" if before else "\n") + json.dumps(one, ensure_ascii=False))


def _annotation(row: dict[str, Any], number: int) -> dict[str, Any]:
    one = {
        "id": number,
        "image_id": row["image_id"],
        "category_id": row["class_id"],
        "score": row["score"],
        "iscrowd": 0,
    }
    if "x_min" in row:
        width, height = row["x_max"] - row["x_min"], row["y_max"] - row["y_min"]
        one |= {"bbox": [row["x_min"], row["y_min"], width, height], "area": width * height}
    if "mask_rle" in row:
        mask = {"size": [row["mask_height"], row["mask_width"]], "counts": row["mask_rle"]}
        one |= {"segmentation": mask} | _of_mask(mask, one)
    if "keypoints" in row:
        points = [
            value
            for one in row["keypoints"]
            for value in (one["x"], one["y"], 2 if one["score"] > 0 else 1)
        ]
        one |= {"keypoints": points, "num_keypoints": len(row["keypoints"])}
    return one


def _of_mask(mask: dict[str, Any], one: dict[str, Any]) -> dict[str, Any]:
    """The mask's own area, and its box where the row has none."""
    from pycocotools import mask as coco_mask

    own = {"area": float(coco_mask.area(mask))}
    return own if "bbox" in one else own | {"bbox": coco_mask.toBbox(mask).tolist()}


def _categories(schema: pa.Schema) -> list[dict[str, Any]]:
    points = read_name_list(schema, "keypoint_names")
    own: dict[str, Any] = {"keypoints": points, "skeleton": []} if points else {}
    return [
        {"id": i, "name": name, "supercategory": "", **own}
        for i, name in enumerate(read_categories(schema))
        if name not in PLACEHOLDERS
    ]
