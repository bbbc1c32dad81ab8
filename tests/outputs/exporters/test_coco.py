"""COCO files that COCO's own library reads."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from pipeline.config.command_options import read_options
from pipeline.ops.masks import encode_rle
from pipeline.results.commands.refilter import Options as RefilterOptions
from pipeline.results.commands.refilter import run_command as refilter
from tests.helpers.made_runs import Row, box, made_run

Export = Callable[..., Path]


def load(folder: Path) -> COCO:
    return COCO(str(folder / "annotations.json"))


def test_no_predictions_are_no_annotations(tmp_path: Path, export: Export) -> None:
    folder = export(made_run(tmp_path / "run", [Row("a.jpg", (3, 4))]), "coco")
    read = json.loads((folder / "annotations.json").read_text())
    assert (
        read["images"] == [{"id": 0, "file_name": "a.jpg", "width": 4, "height": 3}]
        and read["annotations"] == []
    )
    assert [(one["id"], one["name"]) for one in read["categories"]] == [
        (1, "dog"),
        (2, "cat"),
        (3, "stop sign"),
    ]


def test_boxes_and_scores_come_back(tmp_path: Path, export: Export) -> None:
    found = [box(1, 0.875, 1.25, 2.5, 10.75, 20), box(3, 0.5, 0, 0, 640, 480)]
    rows = [
        Row("a.jpg", found=found),
        Row("b.jpg", None, status="empty", error="x"),
        Row("c/d é.jpg", found=found[:1]),
    ]
    coco = load(export(made_run(tmp_path / "run", rows, shard_size=2), "coco"))
    assert {one["id"]: one["file_name"] for one in coco.imgs.values()} == {
        0: "a.jpg",
        2: "c/d é.jpg",
    }
    boxes = [
        (one["image_id"], one["category_id"], one["bbox"], one["score"])
        for one in coco.anns.values()
    ]
    first = [1.25, 2.5, 9.5, 17.5]
    assert boxes == [(0, 1, first, 0.875), (0, 3, [0, 0, 640, 480], 0.5), (2, 1, first, 0.875)]
    assert [one["area"] for one in coco.anns.values()] == [166.25, 307200, 166.25]
    assert len(set(coco.anns)) == 3


@pytest.mark.parametrize("task", ["instances", "segment"])
def test_masks_come_back(task: str, tmp_path: Path, export: Export) -> None:
    mask = np.zeros((20, 30), dtype=bool)
    mask[5:9, 10:25] = True
    columns = {"mask_rle": encode_rle(mask), "mask_height": 20, "mask_width": 30}
    found = (
        box(1, 0.5, 9, 4, 26, 10, **columns)
        if task == "instances"
        else {"class_id": 1, "score": 0.5} | columns
    )
    found |= {"pixels": 60, "share": 0.1} if task == "segment" else {}
    coco = load(export(made_run(tmp_path / "run", [Row("a.jpg", (20, 30), [found])], task), "coco"))
    (one,) = coco.anns.values()
    assert np.array_equal(coco.annToMask(one), mask) and one["area"] == 60
    assert one["bbox"] == ([9, 4, 17, 6] if task == "instances" else [10, 5, 15, 4])
    assert coco_mask.area(one["segmentation"]) == 60


def test_points_come_back(tmp_path: Path, export: Export) -> None:
    points = [
        {"x": 3.5, "y": 4.5, "visibility": 1.0, "score": 2.0},
        {"x": 5.0, "y": 6.0, "visibility": 1.0, "score": -1.0},
    ]
    rows = [Row("a.jpg", found=[box(1, 0.5, 0, 0, 9, 9, keypoints=points)])]
    coco = load(
        export(
            made_run(tmp_path / "run", rows, "keypoints", keypoint_names=("nose", "left_eye")),
            "coco",
        )
    )
    (one,) = coco.anns.values()
    assert one["keypoints"] == [3.5, 4.5, 2, 5.0, 6.0, 1] and one["num_keypoints"] == 2
    assert coco.cats[1]["keypoints"] == ["nose", "left_eye"]


def test_ids_stay_when_other_rows_go(tmp_path: Path, export: Export) -> None:
    found = [box(1, 0.9 - i / 100, i, 0, 40, 30) for i in range(50)]
    twins = [box(2, 0.5, 0, 0, 9, 9)] * 2
    rows = [Row("a.jpg", found=found), Row("b.jpg", found=[*found, *twins])]
    run = made_run(tmp_path / "run", rows, min_score=0.05)
    before = load(export(run, "coco")).anns
    assert len(before) == 102 and min(before) > 0 and max(before) < 1 << 53
    assert load(export(run, "coco", f"output={tmp_path / 'again'}")).anns == before

    options = read_options(
        "refilter", [f"run={run}", "min_score=0.605", "classes=[dog]"], RefilterOptions
    )
    filtered = Path(refilter(options).partition(": ")[0])
    after = load(export(filtered, "coco")).anns
    assert len(after) == 60 and all(before[i] == one for i, one in after.items())


def test_it_is_complete_for_cvat_and_datumaro(tmp_path: Path, export: Export) -> None:
    rows = [Row("a.jpg", found=[box(1, 0.5, 0, 0, 9, 9)])]
    folder = export(made_run(tmp_path / "run", rows), "coco")
    read = json.loads((folder / "annotations" / "instances_default.json").read_text())
    assert read == json.loads((folder / "annotations.json").read_text())
    assert read["info"] == {} and read["licenses"] == []
    assert read["annotations"][0]["segmentation"] == []
    run = made_run(tmp_path / "points", [Row("a.jpg")], "keypoints", keypoint_names=("nose",))
    assert (export(run, "coco") / "annotations" / "person_keypoints_default.json").is_file()
