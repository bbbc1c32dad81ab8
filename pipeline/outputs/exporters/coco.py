"""Convert a run to COCO's annotation format."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from hashlib import blake2b
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, TextIO

import pyarrow as pa
from pycocotools import mask as coco_mask

from pipeline.core.output_protocols import ExportContext
from pipeline.core.schema import read_categories, read_name_list
from pipeline.core.tables import group_by_image
from pipeline.core.task_roles import Content
from pipeline.ops.filters import PLACEHOLDERS
from pipeline.outputs.file_names import ImageNames, warn_of_new_names

_ID_BITS = 32  # lower bits of an annotation's id; the upper bits are its image's id


class Coco:
    """Exporter to COCO's annotation format.

    annotations.json:

        {"info": {}, "licenses": [],
        "categories": [{"id": 1, "name": "dog", "supercategory": ""},
        ...
        "images": [
        {"id": 0, "file_name": "desk/cat.jpg", "width": 640, "height": 480}],
        "annotations": [
        {"id": 3184889208, "image_id": 0, "category_id": 1, "score": 0.5, "iscrowd": 0,
         "segmentation": [], "bbox": [64.0, 48.0, 256.0, 192.0], "area": 49152.0}]}

    Image ids are the run's image_id, category ids the model's class ids, and file names the keys.
    An annotation's id is made from its image's id and its content, so that it is the same in every
    export of the run and of runs that `refilter` made of it.

    `bbox` is x, y, width, height in pixels of the upright image. Masks are compressed RLE in
    `segmentation`, which is empty without a mask. `keypoints` has x, y, v for each point. v is 2
    for a point that is probably visible (score above 0), else 1.

    CVAT and datumaro tell images apart by their names without suffix. So of a.jpg and a.png the
    second is called a.png.png, and `key` has its name in the run.

    datumaro finds the file only as annotations/instances_default.json, and with keypoints as
    annotations/person_keypoints_default.json. So it has that name too.
    """

    holds = frozenset({"boxes", "masks", "keypoints", "scores"})
    image_folder = "images"

    @contextmanager
    def open(self, context: ExportContext) -> Iterator["_Writer"]:
        path = context.folder / "annotations.json"
        with (
            closing(ImageNames()) as names,
            path.open("w", encoding="utf-8") as file,
            # The file has all images before all annotations, but a run is read only once. So the
            # annotations are collected in an unnamed temporary file.
            TemporaryFile("w+", encoding="utf-8", dir=context.folder) as annotations,
        ):
            categories = json.dumps(_list_categories(context.predictions_schema))
            file.write(f'{{"info": {{}}, "licenses": [],\n"categories": {categories},\n"images": [')
            writer = _Writer(context, names, file, annotations)
            yield writer
            file.write('],\n"annotations": [')
            annotations.seek(0)
            shutil.copyfileobj(annotations, file)
            file.write("]}\n")

        kind = "person_keypoints" if Content.KEYPOINTS in context.contents else "instances"
        _add_second_name(path, context.folder / "annotations" / f"{kind}_default.json")
        warn_of_new_names(writer.n_renamed, "CVAT and datumaro")


def _add_second_name(path: Path, second: Path) -> None:
    """Make the file known under a second name; copy it where the file system has no hard links."""
    second.parent.mkdir()
    try:
        os.link(path, second)
    except OSError:
        shutil.copyfile(path, second)


class _Writer:
    def __init__(
        self, context: ExportContext, names: ImageNames, images: TextIO, annotations: TextIO
    ) -> None:
        self.context, self.names = context, names
        self.images, self.annotations = images, annotations
        self.n_images = self.n_annotations = self.n_renamed = 0

    def write(self, images: pa.Table, predictions: pa.Table) -> None:
        for image, rows in group_by_image(images, predictions):
            name = self.names.reserve(image["key"])
            self.context.place_image(image["key"], name)
            item = {
                "id": image["image_id"],
                "file_name": name,
                "width": image["width"],
                "height": image["height"],
            }
            if name != image["key"]:
                item["key"] = image["key"]
                self.n_renamed += 1
            _write_item(self.images, item, is_first=self.n_images == 0)
            self.n_images += 1

            for annotation_id, row in zip(_make_ids(image["image_id"], rows), rows, strict=True):
                annotation = _make_annotation(row, annotation_id)
                _write_item(self.annotations, annotation, is_first=self.n_annotations == 0)
                self.n_annotations += 1


def _make_ids(image_id: int, rows: list[dict[str, Any]]) -> Iterator[int]:
    """Yield an id above 0 for each row of an image, made from the image's id and the row's content.

    A filter that removes rows leaves the ids of the others as they are. Only if two rows of an
    image share their 32 bits, the later one takes the next free number.
    """
    taken: set[int] = {0}
    for row in rows:
        digest = blake2b(repr(row).encode(), digest_size=_ID_BITS // 8).digest()
        number = int.from_bytes(digest, "big")
        while number in taken:
            number = (number + 1) % (1 << _ID_BITS)
        taken.add(number)
        yield (image_id << _ID_BITS) + number


def _write_item(file: TextIO, item: dict[str, Any], is_first: bool) -> None:
    file.write(("\n" if is_first else ",\n") + json.dumps(item, ensure_ascii=False))


def _make_annotation(row: dict[str, Any], annotation_id: int) -> dict[str, Any]:
    annotation: dict[str, Any] = {
        "id": annotation_id,
        "image_id": row["image_id"],
        "category_id": row["class_id"],
        "score": row["score"],
        "iscrowd": 0,
        "segmentation": [],  # CVAT refuses annotations without it
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
