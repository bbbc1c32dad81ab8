"""YOLO's data.yaml, as Ultralytics reads it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from pipeline.core.errors import ConfigError
from tests.annotations.test_coco_reader import DOG, example
from tests.training.datasets.test_files import EXPECTED, found, opened
from tests.training.made_sets import NAMES, SCENES, Scene, images, paint, write_yolo

COCO_FLIP = [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15]


def relabel(file: Path, image: str, text: str) -> Path:
    (file.parent / "labels" / image).with_suffix(".txt").write_text(text)
    return file


def test_a_polygon_is_a_mask_and_its_box(tmp_path: Path) -> None:
    file = write_yolo(tmp_path)
    for scene in SCENES:
        width, height = scene.size
        lines = [
            f"{NAMES.index(name)} {x / width} {y / height} {x_max / width} {y / height} "
            f"{x_max / width} {y_max / height} "
            f"{x / width} {y_max / height}\n"
            for name, x, y, x_max, y_max in scene.objects
        ]
        relabel(file, scene.name, "".join(lines))
    for task in ("detect", "instances"):
        data = opened(file, task)
        assert found(data.training, data.validation, names=data.categories) == EXPECTED
    assert np.array_equal(example(data).target["masks"][0].numpy(), DOG)
    assert (example(opened(file, "segment")).target["mask"].numpy()[DOG] == 2).all()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("2 0.5 0.5 0.1 0.1", "the class 2 is none of data.yaml's names, 0 to 1"),
        ("-1 0.5 0.5 0.1 0.1", "the class -1 is none"),
        ("0.5 0.5 0.5 0.1 0.1", "the class 0.5 is none"),
        ("0 0.9 0.5 0.4 0.1", "the box .* lies outside of the image of 64x48 by 6.4 pixels"),
        ("0 0.5 0.5 0 0.1", "the box .* is empty"),
        ("0 0.5 0.5 nan 0.1", "the box .* is empty"),
        ("0 0.5 0.5 0.1", "3 values after the class"),
        ("0 0.5 0.5 0.1 0.1 0.9", "5 values after the class"),
        ("0", "0 values after the class"),
        ("cat 0.5 0.5 0.1 0.1", "could not convert"),
        ("0 100 200 50 60", "the box .* lies outside"),  # pixels, not fractions
    ],
)
def test_what_is_wrong_is_named_with_its_line(line: str, message: str, tmp_path: Path) -> None:
    file = relabel(write_yolo(tmp_path), "a.png", f"0 0.5 0.5 0.1 0.1\n\n{line}\n")
    with pytest.raises(ConfigError, match=f"images/a.png: a.txt line 3: {message}"):
        opened(file)


@pytest.mark.parametrize("task", ["instances", "segment"])
def test_a_box_is_no_mask(task: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"a.txt line 1: it has no segmentation"):
        opened(write_yolo(tmp_path), task)


# --- images


def test_a_list_of_images(tmp_path: Path) -> None:
    file = write_yolo(tmp_path, train="train.txt", val=["val.txt"])
    (tmp_path / "train.txt").write_text("./images/a.png\nimages/c.png\n\n")
    (tmp_path / "val.txt").write_text(f"{tmp_path}/images/b.png\n")
    data = opened(file)
    assert [data.training.name(i) for i in range(2)] == ["images/a.png", "images/c.png"]
    assert [data.validation.name(i) for i in range(len(data.validation))] == ["images/b.png"]


@pytest.mark.parametrize(
    ("root", "train"),
    [(None, "images"), (".", "images"), ("gone", "images"), (None, "../images"), (None, ["images"])]
)  # fmt: skip
def test_where_images_are(root: str | None, train: Any, tmp_path: Path) -> None:
    file = write_yolo(
        tmp_path / "set", train=train, val=None, **({} if root is None else {"path": root})
    )
    data = opened(file)
    assert found(data.training, data.validation, names=data.categories) == EXPECTED


def test_the_last_images_in_a_path_becomes_labels(tmp_path: Path) -> None:
    write_yolo(tmp_path / "images" / "set")
    data = opened(tmp_path / "images" / "set" / "data.yaml")
    assert found(data.training, data.validation, names=data.categories) == EXPECTED


def test_labels_beside_images_without_such_a_folder(tmp_path: Path) -> None:
    paint(SCENES[0], tmp_path)
    paint(SCENES[1], tmp_path)
    for name in "ab":
        (tmp_path / f"{name}.txt").write_text("1 0.5 0.5 0.5 0.5\n")
    (tmp_path / "data.yaml").write_text(yaml.safe_dump({"train": ".", "names": list(NAMES)}))
    assert sum(len(one.labels) for one in images(opened(tmp_path / "data.yaml").training)) == 1


def test_its_own_validation_part_is_used_unless_a_part_is_asked_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    file = write_yolo(tmp_path, val="val")
    paint(Scene("v.png"), tmp_path / "val")
    (tmp_path / "val" / "v.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    data = opened(file)
    assert (len(data.training), data.validation.name(0)) == (
        4,
        "val/v.png",
    ) and "of its own, which is used" in caplog.text
    data = opened(file, validation=0.3)
    assert len(data.training) == 3 and "is left out, because train.validation=0.3" in caplog.text


def test_two_images_of_one_name_would_share_their_labels(tmp_path: Path) -> None:
    file = write_yolo(tmp_path)
    paint(Scene("a.bmp"), tmp_path / "images")
    with pytest.raises(ConfigError, match=r"images/a.bmp: images/a.png has the same labels, a.txt"):
        opened(file)


def test_an_image_that_is_listed_and_not_there(tmp_path: Path) -> None:
    file = write_yolo(tmp_path, train="train.txt", val=None)
    (tmp_path / "train.txt").write_text("images/a.png\nimages/gone.png\nimages/a.png\n")
    with pytest.raises(
        ConfigError,
        match=r"(?s)gone.png: there is no file.*images/a.png: two images have this name",
    ):
        opened(file)


# --- data.yaml


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "expected YOLO's data.yaml"),
        ("[1, 2]", "expected YOLO's data.yaml"),
        ("train: images", "expected YOLO's data.yaml"),
        ("train: {", "expected YOLO's data.yaml"),
        (f"train: {'[' * 1000}", "expected YOLO's data.yaml"),
        ("train: images\nnames: {.inf: a}", "expected YOLO's data.yaml"),
        ("train: images\nnames: [a, a]", "two classes have one name"),
        ("train: images\nnames: {x: a}", "expected YOLO's data.yaml"),
        ("train: none\nnames: [a]", "there is no .*none"),
        ("train: images\nnames: !!python/object/apply:os.getcwd []", "expected YOLO's data.yaml"),
        ("train: images\nnames: ['${oc.env:HOME}']", None),
    ],
)
def test_what_is_no_data_yaml(content: str, message: str | None, tmp_path: Path) -> None:
    file = write_yolo(tmp_path)
    file.write_text(content)
    if message is None:  # a name like any other: nothing of the environment gets into it
        relabel(file, "a.png", "0 0.5 0.5 0.1 0.1\n")
        (tmp_path / "labels" / "b.txt").write_text("0 0.5 0.5 0.1 0.1\n")
        (tmp_path / "labels" / "d.txt").unlink()
        assert opened(file).categories[1:] == ("${oc.env:HOME}",)
        return
    with pytest.raises(ConfigError, match=message):
        opened(file)


def test_class_numbers_may_have_gaps(tmp_path: Path) -> None:
    file = write_yolo(tmp_path, names={5: "cat", 7: "dog"})
    for name in "abd":
        relabel(file, f"{name}.png", "7 0.5 0.5 0.1 0.1\n")
    data = opened(file)
    assert data.categories == ("__background__", "cat", "dog") and set(
        images(data.training)[0].labels.tolist()
    ) == {2}
    relabel(file, "a.png", "6 0.5 0.5 0.1 0.1\n")
    with pytest.raises(ConfigError, match=r"the class 6 is none of data.yaml's names, 5 to 7"):
        opened(file)


# --- keypoints


def _posed(tmp_path: Path, points: str, **more: Any) -> Path:
    file = write_yolo(tmp_path, **more)
    for name in "abd":
        relabel(file, f"{name}.png", f"1 0.5 0.5 0.5 0.5 {points}\n")
    return file


@pytest.mark.parametrize(
    ("dimensions", "points", "expected"),
    [
        (3, "0.25 0.5 2 0.5 0.25 1 0 0 0", [[16, 24, 2], [32, 12, 1], [0, 0, 0]]),
        (2, "0.25 0.5 0.5 0.25 0 0", [[16, 24, 2], [32, 12, 2], [0, 0, 0]]),
    ],
)
def test_keypoints(dimensions: int, points: str, expected: list[list[int]], tmp_path: Path) -> None:
    data = opened(
        _posed(tmp_path, points, kpt_shape=[3, dimensions], flip_idx=[0, 2, 1]), "keypoints"
    )
    assert data.keypoint_names == ("point_0", "left_1", "right_1")
    assert example(data).target["keypoints"].tolist() == [expected]


def test_of_lines_with_keypoints_boxes_are_learnt_too(tmp_path: Path) -> None:
    data = opened(_posed(tmp_path, "0.25 0.5 0.5 0.25", kpt_shape=[2, 2]))
    assert example(data).target["boxes"].tolist() == [[16, 12, 48, 36]]


@pytest.mark.parametrize(
    ("more", "names"),
    [
        ({}, tuple(f"point_{i}" for i in range(17))),
        ({"flip_idx": COCO_FLIP}, ("nose", "left_eye")),
        ({"kpt_names": {0: [f"p{i}" for i in range(17)]}}, ("p0", "p1")),
    ],
)
def test_names_of_keypoints(more: Any, names: tuple[str, ...], tmp_path: Path) -> None:
    data = opened(_posed(tmp_path, "0.5 0.5 " * 17, kpt_shape=[17, 2], **more), "keypoints")
    assert data.keypoint_names[: len(names)] == names


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({}, "task=keypoints needs its kpt_shape"),
        ({"kpt_shape": [2]}, r"kpt_shape is \[2\]"),
        ({"kpt_shape": [2, 4]}, r"kpt_shape is \[2, 4\]"),
        ({"kpt_shape": [2, 2], "flip_idx": [0, 0]}, "flip_idx does not exchange 2 points"),
        ({"kpt_shape": [2, 2], "kpt_names": {0: ["a"]}}, "kpt_names are not one list of 2"),
        ({"kpt_shape": [2, 3]}, "4 values|8 values after the class; kpt_shape asks for 10"),
        ({"kpt_shape": [2, 2], "flip_idx": [1, 0]}, "keypoint 2, at 128 24, lies outside"),
    ],
)
def test_keypoints_that_cannot_be_read(more: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        opened(_posed(tmp_path, "0.25 0.5 2 0.5", **more), "keypoints")
