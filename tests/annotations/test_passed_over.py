"""Companion files and folders of operating systems and notebooks are no part of a data set."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from tests.annotations.test_layouts import objects
from tests.training.datasets.test_files import EXPECTED, opened
from tests.training.made_sets import Scene, paint, write_classes, write_coco, write_voc, write_yolo


def litter(root: Path) -> None:
    """Write companions into each folder: those of its files have the suffixes of its files."""
    for folder in (root, *(path for path in sorted(root.rglob("*")) if path.is_dir())):
        files = [path for path in folder.iterdir() if path.is_file()]
        for name in ("Thumbs.db", "desktop.ini", ".DS_Store"):
            (folder / name).write_bytes(b"\0\1not a picture")
        for place in (".ipynb_checkpoints", "__MACOSX", "@eaDir"):
            (folder / place).mkdir()
        for file in files:
            (folder / f"._{file.name}").write_bytes(b"\0\5\x16\7resource fork")
            (folder / "__MACOSX" / f"._{file.name}").write_bytes(b"\0\5\x16\7resource fork")
            copy = f"{file.stem}-checkpoint{file.suffix}"
            shutil.copy(file, folder / ".ipynb_checkpoints" / copy)
            shutil.copy(file, folder / "@eaDir" / file.name)


def _coco_file(root: Path) -> Path:
    return write_coco(root)


def _coco_folder(root: Path) -> Path:
    write_coco(root)
    (root / "annotations").mkdir()
    (root / "set.json").rename(root / "annotations" / "instances_train.json")
    return root


def _coco_folder_of_parts(root: Path) -> Path:
    (write_coco(root / "train")).rename(root / "train" / "_annotations.coco.json")
    for image in (root / "train" / "images").iterdir():
        image.rename(root / "train" / image.name)
    (root / "train" / "images").rmdir()
    return root


def _yolo(root: Path) -> Path:
    return write_yolo(root)


def _yolo_folder(root: Path) -> Path:
    return write_yolo(root).parent


def _yolo_without_a_description(root: Path) -> Path:
    write_yolo(root).unlink()
    (root / "classes.txt").write_text("cat\ndog\n")
    return root


def _voc(root: Path) -> Path:
    return write_voc(root)


def _flat_voc(root: Path) -> Path:
    write_voc(root / "set")
    for file in (
        *(root / "set" / "Annotations").iterdir(),
        *(root / "set" / "JPEGImages").iterdir(),
    ):
        file.rename(root / file.name)
    shutil.rmtree(root / "set")
    return root


LAYOUTS = (
    _coco_file, _coco_folder, _coco_folder_of_parts, _yolo, _yolo_folder,
    _yolo_without_a_description, _voc, _flat_voc,
)  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_set_with_companions_is_the_set_without(
    layout: Callable[[Path], Path], tmp_path: Path
) -> None:
    data = layout(tmp_path / "set")
    litter(tmp_path / "set")
    assert objects(data) == EXPECTED


def test_class_folders(tmp_path: Path) -> None:
    write_classes(tmp_path / "train", dog=3, cat=2)
    write_classes(tmp_path / "val", dog=2, cat=2)
    litter(tmp_path)
    data = opened(tmp_path, "classify")
    names = [[part.name(i) for i in range(len(part))] for part in (data.training, data.validation)]
    assert data.categories == ("cat", "dog")
    assert names[0] == [
        "train/cat/0.png", "train/cat/sub/1.png",
        "train/dog/0.png", "train/dog/1.png", "train/dog/sub/2.png",
    ]  # fmt: skip
    assert names[1] == ["val/cat/0.png", "val/cat/sub/1.png", "val/dog/0.png", "val/dog/sub/1.png"]


def test_label_maps(tmp_path: Path) -> None:
    (tmp_path / "SegmentationClass").mkdir()
    for stem in ("a", "b"):
        paint(Scene(f"{stem}.png", (32, 24)), tmp_path / "JPEGImages")
        Image.new("L", (32, 24), 1).save(tmp_path / "SegmentationClass" / f"{stem}.png")
    (tmp_path / "labelmap.txt").write_text("background:0,0,0::\ncat:128,0,0::\n")
    litter(tmp_path)
    data = opened(tmp_path, "segment", validation=0.5)
    parts = (data.training, data.validation)
    assert data.categories == ("__background__", "cat")
    assert sorted(part.name(i) for part in parts for i in range(len(part))) == [
        "SegmentationClass/a.png",
        "SegmentationClass/b.png",
    ]


@pytest.mark.parametrize(
    ("place", "task"),
    [
        (".ipynb_checkpoints/train.json", "detect"),
        ("__MACOSX/._a.xml", "detect"),
        ("Annotations/._instances.json", "detect"),
        ("labels/._a.txt", "detect"),
    ],
)
def test_companions_alone_do_not_choose_the_format(place: str, task: str, tmp_path: Path) -> None:
    """The set is VOC's, whatever companions of other formats there are."""
    write_voc(tmp_path / "set")
    (tmp_path / "set" / place).parent.mkdir(exist_ok=True)
    (tmp_path / "set" / place).write_text("{}")
    assert objects(tmp_path / "set", task=task) == EXPECTED


def test_a_checkpoint_of_another_format_does_not_hide_labels(tmp_path: Path) -> None:
    data = _yolo_without_a_description(tmp_path / "set")
    (data / ".ipynb_checkpoints").mkdir()
    (data / ".ipynb_checkpoints" / "a-checkpoint.xml").write_text("<annotation/>")
    assert objects(data) == EXPECTED
