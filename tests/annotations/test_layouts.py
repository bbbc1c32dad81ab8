"""Data sets as other programs write them, and files as editors write them."""

import codecs
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from pipeline.core.errors import ConfigError
from tests.training.datasets.test_files import EXPECTED, found, opened
from tests.training.made_sets import (
    NAMES,
    SCENES,
    coco_of,
    paint,
    write_coco,
    write_voc,
    write_yolo,
)


def objects(data: Path, **more: Any) -> dict[str, Any]:
    read = opened(data, **more)
    return found(read.training, read.validation, names=read.categories)


def rewrite(file: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))
    return file


# --- ids


def _text_ids(content: dict[str, Any]) -> None:
    for one in (*content["images"], *content["categories"]):
        one["id"] = str(one["id"])
    for one in content["annotations"]:
        one["image_id"], one["category_id"] = str(one["image_id"]), str(one["category_id"])


def _mixed_ids(content: dict[str, Any]) -> None:
    for one in content["images"]:
        one["id"] = f"{one['id']:06}"
    for one in content["annotations"]:
        one["category_id"] = float(one["category_id"])


def _names_as_ids(content: dict[str, Any]) -> None:
    names = {one["id"]: one["file_name"] for one in content["images"]}
    for one in content["images"]:
        one["id"] = names[one["id"]]
    for one in content["annotations"]:
        one["image_id"] = names[one["image_id"]]


def _nulls(content: dict[str, Any]) -> None:
    for one in content["annotations"]:
        one |= {"area": None, "iscrowd": None, "segmentation": None, "score": None}
    content["images"][0] |= {"width": None, "height": None, "license": None}
    unlabelled = {"image_id": 12, "category_id": None, "bbox": None, "area": None}  # of c.png
    content["annotations"].append({"id": 9} | unlabelled)


def add_orphan(content: dict[str, Any]) -> None:
    content["annotations"].append(content["annotations"][0] | {"id": 99, "image_id": 77})


def _broken_masks(content: dict[str, Any]) -> None:
    for one in content["annotations"]:
        one |= {"segmentation": [[1, 2], "x"], "keypoints": [1]}


def _windows_names(content: dict[str, Any]) -> None:
    for one in content["images"]:
        one["file_name"] = "C:\\set\\images\\" + one["file_name"]


@pytest.mark.parametrize(
    "change",
    [_text_ids, _mixed_ids, _names_as_ids, _nulls, add_orphan, _broken_masks, _windows_names],
)
def test_ids_nulls_and_names_of_other_programs(
    change: Callable[[dict[str, Any]], None], tmp_path: Path
) -> None:
    got = objects(rewrite(write_coco(tmp_path), change))
    assert {Path(name.replace("\\", "/")).stem: one for name, one in got.items()} == EXPECTED


def test_orphans_are_counted_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    objects(rewrite(write_coco(tmp_path), add_orphan))
    expected = "1 annotations are of images that the file does not list; they are passed over: "
    assert f"{expected}annotation 99 (image_id 77)" in caplog.text


def test_a_file_of_orphans_alone_is_refused(tmp_path: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        for one in content["annotations"]:
            one["image_id"] += 1000

    with pytest.raises(ConfigError, match=r"no annotation is of an image .* annotation 1 .*1010"):
        objects(rewrite(write_coco(tmp_path), change))


def test_two_ids_that_are_one(tmp_path: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        content["images"][1]["id"] = "10"

    with pytest.raises(ConfigError, match="two images have one id, '10'"):
        objects(rewrite(write_coco(tmp_path), change))


# --- byte order marks


@pytest.mark.parametrize("mark", ["utf-8-sig", "utf-16"])
def test_yolo_with_byte_order_marks(mark: str, tmp_path: Path) -> None:
    file = write_yolo(tmp_path, train="train.txt", val=None)
    (tmp_path / "train.txt").write_text("".join(f"images/{scene.name}\n" for scene in SCENES))
    for text in (*tmp_path.rglob("*.txt"), file):
        text.write_bytes(text.read_text().encode(mark))
    assert objects(file) == EXPECTED


def test_coco_and_voc_with_byte_order_marks(tmp_path: Path) -> None:
    coco, voc = write_coco(tmp_path / "coco"), write_voc(tmp_path / "voc", train="a b c d")
    (voc / "classes.txt").write_text("cat\ndog\n")
    for text in (coco, *voc.rglob("*.txt"), *voc.rglob("*.xml")):
        text.write_bytes(codecs.BOM_UTF8 + text.read_bytes())
    assert objects(coco) == objects(voc) == EXPECTED


# --- suffixes, links and folders


def test_suffixes_in_capitals(tmp_path: Path) -> None:
    for file in (
        *write_voc(tmp_path / "voc").rglob("*.*"),
        *write_yolo(tmp_path / "yolo").parent.rglob("*.*"),
    ):
        if file.suffix in (".png", ".xml", ".txt"):
            file.rename(file.with_suffix(file.suffix.upper()))
    assert objects(tmp_path / "voc") == objects(tmp_path / "yolo" / "data.yaml") == EXPECTED


@pytest.mark.parametrize("loop", [False, True])
def test_linked_folders_are_followed_once(loop: bool, tmp_path: Path) -> None:
    write_yolo(tmp_path / "there")
    write_voc(tmp_path / "voc_there")
    yolo, voc = tmp_path / "yolo", tmp_path / "voc"
    for folder, target in (
        (yolo / "images", tmp_path / "there" / "images"),
        (yolo / "labels", tmp_path / "there" / "labels"),
        (voc / "JPEGImages", tmp_path / "voc_there" / "JPEGImages"),
        (voc / "Annotations", tmp_path / "voc_there" / "Annotations"),
    ):
        folder.mkdir(parents=True)
        (folder / "sub").symlink_to(target)
        if loop:
            (folder / "loop").symlink_to("..")
    (yolo / "data.yaml").write_text(yaml.safe_dump({"train": "images", "names": list(NAMES)}))
    assert objects(yolo / "data.yaml") == objects(voc) == EXPECTED


def test_voc_lists_with_blanks_and_a_second_column(tmp_path: Path) -> None:
    folder = write_voc(tmp_path)
    for name in "abcd":
        (folder / "JPEGImages" / f"{name}.png").rename(folder / "JPEGImages" / f"my {name} 1.png")
        (folder / "Annotations" / f"{name}.xml").rename(folder / "Annotations" / f"my {name} 1.xml")
    (folder / "ImageSets" / "Main").mkdir(parents=True)
    lines = ["my a 1", "my b 1  1", "my c 1 -1", "my d 1  0"]
    (folder / "ImageSets" / "Main" / "train.txt").write_text("\n".join(lines))
    assert objects(folder) == {f"my {name} 1": EXPECTED[name] for name in "abcd"}


# --- layouts of other programs


def fiftyone_coco(folder: Path) -> Path:
    file = write_coco(folder)
    (folder / "images").rename(folder / "data")
    file.rename(folder / "labels.json")
    return folder


def fiftyone_voc(folder: Path) -> Path:
    write_voc(folder)
    (folder / "JPEGImages").rename(folder / "data")
    (folder / "Annotations").rename(folder / "labels")
    return folder


def cvat_coco(folder: Path) -> Path:
    file = write_coco(folder)
    (folder / "annotations").mkdir()
    file.rename(folder / "annotations" / "instances_default.json")
    return folder


def roboflow_coco(folder: Path) -> Path:
    for part, scenes in (("train", SCENES[:3]), ("valid", SCENES[3:])):
        for scene in scenes:
            paint(scene, folder / part)
        (folder / part / "_annotations.coco.json").write_text(json.dumps(coco_of(scenes)))
    return folder


def label_studio_coco(folder: Path) -> Path:
    def change(content: dict[str, Any]) -> None:
        for one in content["images"]:
            one["file_name"] = f"images\\{one['file_name']}"

    rewrite(write_coco(folder), change).rename(folder / "result.json")
    return folder


def label_studio_yolo(folder: Path) -> Path:
    write_yolo(folder).unlink()
    (folder / "classes.txt").write_text("\n".join(NAMES))
    (folder / "notes.json").write_text("{}")
    return folder


def label_studio_voc(folder: Path) -> Path:
    write_voc(folder)
    (folder / "JPEGImages").rename(folder / "images")
    return folder


def roboflow_voc(folder: Path) -> Path:
    for part, scenes in (("train", SCENES[:3]), ("valid", SCENES[3:])):
        write_voc(folder / "made" / part, scenes)
        (folder / part).mkdir()
        for file in (folder / "made" / part).glob("*/*.*"):
            file.rename(folder / part / file.name)
    return folder


def roboflow_yolo(folder: Path) -> Path:
    for part, scenes in (("train", SCENES[:3]), ("valid", SCENES[3:])):
        write_yolo(folder / part, scenes)
    places = {"train": "../train/images", "val": "../valid/images", "test": "../test/images"}
    (folder / "data.yaml").write_text(yaml.safe_dump(places | {"nc": 2, "names": list(NAMES)}))
    return folder


def cvat_yolo_1_1(folder: Path) -> Path:
    write_yolo(folder).unlink()
    (folder / "obj_train_data").mkdir()
    for file in (*folder.glob("images/*"), *folder.glob("labels/*")):
        file.rename(folder / "obj_train_data" / file.name)
    (folder / "obj.names").write_text("\n".join(NAMES))
    lines = [f"data/obj_train_data/{scene.name}" for scene in SCENES]
    (folder / "train.txt").write_text("\n".join(lines))
    (folder / "obj.data").write_text(
        "classes = 2\ntrain = data/train.txt\nnames = data/obj.names\nbackup = backup/\n"
    )
    return folder


def cvat_ultralytics(folder: Path) -> Path:
    write_yolo(folder, train="train.txt", val=None, path=".")
    for place in ("images", "labels"):
        (folder / place).rename(folder / "moved")
        (folder / place).mkdir()
        (folder / "moved").rename(folder / place / "train")
    lines = [f"data/images/train/{scene.name}" for scene in SCENES]
    (folder / "train.txt").write_text("\n".join(lines))
    return folder


def ultralytics_elsewhere(folder: Path) -> Path:
    write_yolo(folder, path="/elsewhere/datasets/set")
    return folder


def supervision_yolo(folder: Path) -> Path:
    write_yolo(folder).write_text(yaml.safe_dump({"nc": 2, "names": list(NAMES)}))
    return folder


def supervision_voc(folder: Path) -> Path:
    write_voc(folder)
    (folder / "JPEGImages").rename(folder / "images")
    (folder / "Annotations").rename(folder / "annotations")
    return folder


def labelimg_voc(folder: Path) -> Path:
    write_voc(folder)
    for file in folder.glob("*/*.*"):
        file.rename(folder / file.name)
    (folder / "JPEGImages").rmdir()
    (folder / "Annotations").rmdir()
    return folder


def nested_voc(folder: Path) -> Path:
    write_voc(folder)
    for place in ("JPEGImages", "Annotations"):
        (folder / place / "sub").mkdir()
        for file in (*folder.glob(f"{place}/a.*"), *folder.glob(f"{place}/b.*")):
            file.rename(folder / place / "sub" / file.name)
    return folder


LAYOUTS = [
    fiftyone_coco,
    fiftyone_voc,
    cvat_coco,
    roboflow_coco,
    label_studio_coco,
    label_studio_yolo,
    label_studio_voc,
    roboflow_voc,
    roboflow_yolo,
    cvat_yolo_1_1,
    cvat_ultralytics,
    ultralytics_elsewhere,
    supervision_yolo,
    supervision_voc,
    labelimg_voc,
    nested_voc,
]


@pytest.mark.parametrize("write", LAYOUTS)
def test_a_layout_is_read_as_it_is(write: Callable[[Path], Path], tmp_path: Path) -> None:
    got = objects(write(tmp_path / "set"))
    assert {Path(name.replace("\\", "/")).stem: one for name, one in got.items()} == EXPECTED


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([{"id": 1, "data": {"image": "a.png"}, "annotations": []}], "Label Studio: export the"),
        ({"info": {}, "categories": {}, "items": []}, "datumaro: datum convert"),
        ({"version": "5", "shapes": [], "imagePath": "a.png"}, "LabelMe: export the set as COCO"),
        ({"classes": ["cat"], "labels": {"a": 0}}, "FiftyOne: export with dataset_type="),
    ],
)
def test_a_file_of_another_program_is_refused_with_what_to_do(
    content: Any, message: str, tmp_path: Path
) -> None:
    (tmp_path / "set.json").write_text(json.dumps(content))
    with pytest.raises(ConfigError, match=f"expected COCO.s format. This looks like .*{message}"):
        opened(tmp_path / "set.json")


@pytest.mark.parametrize("given", ["annotations.xml", ""])
def test_a_file_of_cvat_is_refused_with_what_to_do(given: str, tmp_path: Path) -> None:
    text = "<?xml version='1.0'?>\n<annotations>\n<version>1.1</version>\n</annotations>\n"
    (tmp_path / "annotations.xml").write_text(text)
    with pytest.raises(ConfigError, match="This looks like a file of CVAT: export the task as"):
        opened(tmp_path / given)


@pytest.mark.parametrize("place", ["coco.json", "yolo/data.yaml", "voc"])
def test_what_supervision_writes_is_read(place: str, tmp_path: Path) -> None:
    import supervision

    annotations = {}
    for scene in SCENES:
        boxes = np.array([corners for _, *corners in scene.objects], float).reshape(-1, 4)
        ids = np.array([NAMES.index(name) for name, *_ in scene.objects], int)
        path = str(paint(scene, tmp_path / "made"))
        annotations[path] = supervision.Detections(xyxy=boxes, class_id=ids)
    made = supervision.DetectionDataset(list(NAMES), list(annotations), annotations)
    made.as_coco(str(tmp_path / "images"), str(tmp_path / "coco.json"))
    yolo, voc = tmp_path / "yolo", tmp_path / "voc"
    made.as_yolo(str(yolo / "images"), str(yolo / "labels"), str(yolo / "data.yaml"))
    made.as_pascal_voc(str(voc / "images"), str(voc / "annotations"))
    assert objects(tmp_path / place) == EXPECTED
