"""Truth in every format and layout that training reads; our own exports as truth."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from pipeline.config.command_options import read_options
from pipeline.core.errors import ConfigError
from pipeline.ops.masks import encode_rle
from pipeline.results.commands import export
from pipeline.results.evaluation.evaluate import evaluate
from pipeline.results.evaluation.result import Evaluation
from pipeline.runs.finished_run import FinishedRun
from tests.annotations.test_layouts import (
    LAYOUTS,
    add_orphan,
    cvat_yolo_1_1,
    rewrite,
    roboflow_yolo,
)
from tests.helpers.made_runs import Row, box, made_run
from tests.training.made_sets import NAMES, SCENES, write_coco, write_voc, write_yolo

CATEGORIES = ("__background__", *NAMES)


def evaluated(run: Path, truth: Path, **more: Any) -> Evaluation:
    return evaluate(FinishedRun.open(run), truth, **more)


def perfect_run(folder: Path, names: Callable[[str], str] = str) -> Path:
    """Make a run that found exactly the objects of `SCENES`."""
    rows = [
        Row(
            names(scene.name),
            scene.size[::-1],
            [box(CATEGORIES.index(name), 0.9, *corners) for name, *corners in scene.objects],
        )
        for scene in SCENES
    ]
    return made_run(folder, rows, "detect", CATEGORIES)


@pytest.mark.parametrize("write", [write_coco, write_yolo, write_voc, *LAYOUTS])
def test_objects_of_every_layout_are_truth(write: Callable[[Path], Path], tmp_path: Path) -> None:
    found = evaluated(perfect_run(tmp_path / "run"), write(tmp_path / "set"))
    assert found.figures["boxes"]["ap"] == pytest.approx(1.0)
    assert (found.images.truth, found.images.not_in_run, found.images.not_in_truth) == (4, 0, 0)
    assert sum(row["truth"] for row in found.classes) == 4


def test_only_the_parts_that_the_run_has_are_evaluated(tmp_path: Path) -> None:
    row = Row("d.png", (40, 80), [box(2, 0.9, 10, 5, 79, 39)])
    run = made_run(tmp_path / "run", [row], "detect", CATEGORIES)
    found = evaluated(run, roboflow_yolo(tmp_path / "set") / "data.yaml")
    assert (found.images.truth, found.figures["boxes"]["ap"]) == (1, pytest.approx(1.0))
    assert "The run has no images of these parts of truth: train (3 images)" in found.notes


@pytest.mark.parametrize("form", ["coco", "yolo", "voc"])
@pytest.mark.parametrize("folder", ["", "sub/", "sub/images/", "my ü/"])
def test_an_export_is_truth_of_its_own_run(form: str, folder: str, tmp_path: Path) -> None:
    """The run has two images of one stem, which YOLO and VOC cannot tell apart."""
    run = perfect_run(tmp_path / "run", lambda name: folder + name.replace("b.png", "a.jpg"))
    words = [f"run={run}", f"to={form}", f"output={tmp_path / 'export'}"]
    export.run_command(read_options("export", words, export.Options))
    found = evaluated(run, tmp_path / "export")
    assert found.figures["boxes"]["ap"] == pytest.approx(1.0)
    assert (found.images.truth, found.images.not_in_run, found.images.not_in_truth) == (4, 0, 0)


def test_orphans_are_noted(tmp_path: Path) -> None:
    data = rewrite(write_coco(tmp_path), add_orphan)
    found = evaluated(perfect_run(tmp_path / "run"), data)
    assert any("passed over: annotation 99 (image_id 77)" in note for note in found.notes)


def test_label_files_without_images_are_enough(tmp_path: Path) -> None:
    data = write_yolo(tmp_path / "set")
    for file in (tmp_path / "set" / "images").iterdir():
        file.unlink()
    (tmp_path / "set" / "labels" / "c.txt").write_text("")
    (tmp_path / "set" / "images").rmdir()
    found = evaluated(perfect_run(tmp_path / "run"), data)
    assert found.figures["boxes"]["ap"] == pytest.approx(1.0) and found.images.truth == 4


def test_listed_images_that_are_not_there(tmp_path: Path) -> None:
    for file in (folder := cvat_yolo_1_1(tmp_path / "set")).rglob("*.png"):
        file.unlink()
    found = evaluated(perfect_run(tmp_path / "run"), folder)
    assert found.figures["boxes"]["ap"] == pytest.approx(1.0) and found.images.truth == 4


# --- classes of pixels

REGIONS = ("__background__", "road", "sky")
LABELS = np.array([[0, 1, 1], [2, 2, 0]], np.uint8)
COLOURS = np.array([[0, 0, 0], [10, 20, 30], [200, 0, 7]], np.uint8)
LABELMAP = "# label:color_rgb:parts:actions\nbackground:0,0,0::\nsky:200,0,7::\nroad:10,20,30::\n"


def region_run(folder: Path) -> Path:
    common = {"mask_height": 2, "mask_width": 3, "score": 0.9, "pixels": 1, "share": 0.5}
    found = [common | {"class_id": c, "mask_rle": encode_rle(c == LABELS)} for c in (1, 2)]
    return made_run(folder, [Row("a.jpg", (2, 3), found)], "segment", REGIONS)


def save_voc_maps(folder: Path, mode: str) -> Path:
    """Write a label map as CVAT does: in colours, or as palette indices in labelmap.txt's order."""
    (folder / "SegmentationClass").mkdir(parents=True)
    if mode == "P":
        image = Image.fromarray(np.array([0, 2, 1], np.uint8)[LABELS])
        image.putpalette(COLOURS[[0, 2, 1]].ravel().tolist())
    else:
        image = Image.fromarray(COLOURS[LABELS])
    image.save(folder / "SegmentationClass" / "a.png")
    (folder / "labelmap.txt").write_text(LABELMAP)
    return folder


@pytest.mark.parametrize("mode", ["RGB", "P"])
@pytest.mark.parametrize("inside", ["", "SegmentationClass"])
def test_colours_are_classes_by_labelmap(mode: str, inside: str, tmp_path: Path) -> None:
    truth = save_voc_maps(tmp_path / "set", mode) / inside
    found = evaluated(region_run(tmp_path / "run"), truth)
    assert found.figures["regions"]["miou"] == 1.0
    assert [(row["class"], row["truth"]) for row in found.classes] == [
        ("__background__", 2), ("road", 2), ("sky", 2),
    ]  # fmt: skip


def test_a_colour_that_labelmap_lacks_is_named(tmp_path: Path) -> None:
    truth = save_voc_maps(tmp_path / "set", "RGB")
    (truth / "labelmap.txt").write_text("background:0,0,0::\nsky:200,0,7::\n")
    with pytest.raises(ConfigError, match=r"a.png has the colour 10,20,30, which labelmap.txt"):
        evaluated(region_run(tmp_path / "run"), truth)


def test_polygons_are_regions(tmp_path: Path) -> None:
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.txt").write_text("1 0 0 1 0 1 1 0 1\n")
    (tmp_path / "data.yaml").write_text(
        yaml.safe_dump({"train": "images", "names": ["road", "sky"]})
    )
    found = evaluated(region_run(tmp_path / "run"), tmp_path / "data.yaml")
    assert [(row["class"], row["truth"]) for row in found.classes if row["truth"]] == [("sky", 6)]
    assert found.figures["regions"]["pixel_accuracy"] == pytest.approx(2 / 6)


def test_boxes_are_no_regions(tmp_path: Path) -> None:
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.txt").write_text("1 0.5 0.5 1 1\n")
    (tmp_path / "data.yaml").write_text(yaml.safe_dump({"train": "images", "names": ["a", "sky"]}))
    with pytest.raises(ConfigError, match="truth has boxes and no masks"):
        evaluated(region_run(tmp_path / "run"), tmp_path / "data.yaml")


# --- classes of images


@pytest.mark.parametrize("part", ["train", "val"])
def test_class_folders_may_be_in_parts(part: str, tmp_path: Path) -> None:
    for place in ("train", "val"):
        for name in ("cat", "dog"):
            folder = tmp_path / "set" / place / name
            folder.mkdir(parents=True)
            Image.new("RGB", (4, 4)).save(folder / f"{place}-{name}.png")
    (tmp_path / "set" / "README.txt").write_text("no picture")
    rows = [
        Row(f"{name}/{part}-{name}.png", (4, 4), [{"class_id": i, "score": 1.0, "rank": 0}])
        for i, name in enumerate(("cat", "dog"))
    ]
    run = made_run(tmp_path / "run", rows, "classify", ("cat", "dog"))
    found = evaluated(run, tmp_path / "set")
    assert found.figures["labels"]["top1"] == 1.0 and found.images.truth == 2
