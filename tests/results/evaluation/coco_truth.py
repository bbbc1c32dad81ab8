"""Truth in COCO's format, and the figures that pycocotools itself gives for a run."""

import contextlib
import io
import json
from pathlib import Path
from typing import Any

from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from pipeline.runs.finished_run import FinishedRun


def write_truth(
    path: Path,
    images: dict[str, tuple[int, int]],
    annotations: list[dict[str, Any]],
    names: dict[int, str],
    **category: Any,
) -> Path:
    """Write a COCO file. `images` maps names to (height, width) and is numbered from 0.

    An annotation's `image_id` is the name of its image.
    """
    ids = {name: number for number, name in enumerate(images)}
    every = [
        {"id": number, "iscrowd": 0, "area": one["bbox"][2] * one["bbox"][3]}
        | one
        | {"image_id": ids[one["image_id"]]}
        for number, one in enumerate(annotations, start=1)
    ]
    listed = [
        {"id": ids[name], "file_name": name, "height": h, "width": w}
        for name, (h, w) in images.items()
    ]
    categories = [{"id": i, "name": name} | category for i, name in names.items()]
    path.write_text(json.dumps({"images": listed, "annotations": every, "categories": categories}))
    return path


def by_pycocotools(run: Path, truth: Path, iou_type: str) -> COCOeval:
    """Evaluate all images at once with the ids of the run and the file, as a user does by hand."""
    with contextlib.redirect_stdout(io.StringIO()):
        objects = COCO(str(truth))
        id_of = {image["file_name"]: image["id"] for image in objects.dataset["images"]}
        table = FinishedRun.open(run).open_dataset("predictions").to_table().to_pylist()
        id_of |= {
            f"images/{name}": number for name, number in id_of.items()
        }  # as the shared folders have them
        found = [_result(row, id_of[row["key"]], iou_type) for row in table if row["key"] in id_of]
        evaluated = COCOeval(objects, objects.loadRes(found), iou_type)
        evaluated.evaluate()
        evaluated.accumulate()
        evaluated.summarize()
    return evaluated


def _result(row: dict[str, Any], image_id: int, iou_type: str) -> dict[str, Any]:
    one = {"image_id": image_id, "category_id": row["class_id"], "score": row["score"]}
    if iou_type == "bbox":
        x, y = row["x_min"], row["y_min"]
        return one | {"bbox": [x, y, row["x_max"] - x, row["y_max"] - y]}
    if iou_type == "segm":
        return one | {
            "segmentation": {
                "size": [row["mask_height"], row["mask_width"]],
                "counts": row["mask_rle"],
            }
        }
    return one | {
        "keypoints": [value for point in row["keypoints"] for value in (point["x"], point["y"], 1)]
    }
