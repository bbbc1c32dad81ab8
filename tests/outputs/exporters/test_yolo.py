"""Ultralytics' layout: names, numbers, and inputs that would break it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from pycocotools import mask as coco_mask

from pipeline.core.errors import ConfigError
from pipeline.ops.masks import encode_rle
from tests.helpers.made_runs import Row, box, made_run
from tests.helpers.pictures import picture

Export = Callable[..., Path]


def read_label_files(folder: Path) -> dict[str, str]:
    labels = folder / "labels"
    return {
        str(path.relative_to(labels)): path.read_text()
        for path in sorted(labels.rglob("*"))
        if path.is_file()
    }


def test_no_predictions_are_an_empty_file(tmp_path: Path, export: Export) -> None:
    folder = export(made_run(tmp_path / "run", [Row("a.jpg")]), "yolo")
    assert read_label_files(folder) == {"a.txt": ""}
    names = {0: "dog", 1: "cat", 2: "stop sign"}
    assert yaml.safe_load((folder / "data.yaml").read_text()) == {
        "train": "train.txt",
        "val": "val.txt",
        "names": names,
    }


def test_centre_and_size_as_fractions_and_classes_from_0(tmp_path: Path, export: Export) -> None:
    found = [box(3, 0.9, 64, 48, 320, 240), box(1, 0.5, 0, 0, 640, 480)]
    folder = export(made_run(tmp_path / "run", [Row("sub/a.jpg", (480, 640), found)]), "yolo")
    lines = [
        "2 0.30000000 0.30000000 0.40000000 0.40000000",
        "0 0.50000000 0.50000000 1.00000000 1.00000000",
    ]
    assert read_label_files(folder) == {"sub/a.txt": "".join(f"{line}\n" for line in lines)}


def test_boxes_and_points_are_cut_to_the_image(tmp_path: Path, export: Export) -> None:
    points = [
        {"x": -3.0, "y": 50.0, "visibility": 1.0, "score": 2.0},
        {"x": 101.0, "y": 201.0, "visibility": 1.0, "score": -1.0},
    ]
    found = [box(1, 0.5, -10, 100, 50, 210, keypoints=points)]
    run = made_run(
        tmp_path / "run",
        [Row("a.jpg", (200, 100), found)],
        "keypoints",
        keypoint_names=("left_eye", "right_eye"),
    )
    folder = export(run, "yolo")
    assert [float(value) for value in read_label_files(folder)["a.txt"].split()] == [
        *(0, 0.25, 0.75, 0.5, 0.5),
        *(0, 0.25, 2),
        *(1, 1, 1),
    ]
    data = yaml.safe_load((folder / "data.yaml").read_text())
    assert data["kpt_shape"] == [2, 3] and data["flip_idx"] == [1, 0]


@pytest.mark.parametrize(
    ("keys", "labels", "images"),
    [
        (["a.jpg", "a.png"], ["a.png.txt", "a.txt"], ["a.jpg", "a.png.png"]),
        (["a.jpg", "sub/a.jpg"], ["a.txt", "sub/a.txt"], ["a.jpg", "sub/a.jpg"]),
        (
            ["images/a.jpg"],
            ["images_/a.txt"],
            ["images_/a.jpg"],
        ),  # YOLO looks for the last folder `images`
        (
            ["a.jpg", "a.txt/b.jpg"],
            ["a.txt", "image-51bbe7e788a3c21e.txt"],
            ["a.jpg", "image-51bbe7e788a3c21e.jpg"],
        ),
    ],
)
def test_every_image_has_its_own_labels(
    keys: list[str], labels: list[str], images: list[str], tmp_path: Path, export: Export
) -> None:
    for key in keys:
        (tmp_path / "in" / key).parent.mkdir(parents=True, exist_ok=True)
        picture(10, 10).save(tmp_path / "in" / key)
    run = made_run(tmp_path / "run", [Row(key, (10, 10)) for key in keys], input=tmp_path / "in")
    folder = export(run, "yolo", "images=link")
    assert sorted(read_label_files(folder)) == labels
    assert (
        sorted(
            str(path.relative_to(folder / "images")) for path in (folder / "images").rglob("*.*g")
        )
        == images
    )


def test_that_names_had_to_change_is_said(
    tmp_path: Path, export: Export, caplog: pytest.LogCaptureFixture
) -> None:
    export(made_run(tmp_path / "one", [Row("a.jpg"), Row("b.png")]), "yolo")
    assert not caplog.text
    export(made_run(tmp_path / "two", [Row("a.jpg"), Row("a.png")]), "yolo")
    assert "1 images are called otherwise there" in caplog.text


def test_a_placeholder_is_no_class(tmp_path: Path, export: Export) -> None:
    run = made_run(tmp_path / "run", [Row("a.jpg", found=[box(0, 0.5, 0, 0, 9, 9)])])
    with pytest.raises(
        ConfigError, match=r"a\.jpg has a prediction of class id 0, '__background__'"
    ):
        export(run, "yolo")


def test_images_are_divided_into_training_and_validation(tmp_path: Path, export: Export) -> None:
    keys = [f"{i:03d}.jpg" for i in range(200)]

    def split(name: str, keys: list[str]) -> tuple[list[str], list[str]]:
        folder = export(made_run(tmp_path / name, [Row(key) for key in keys]), "yolo")
        training, validation = (
            (folder / f"{part}.txt").read_text().splitlines() for part in ("train", "val")
        )
        assert sorted([*training, *validation]) == [f"./images/{key}" for key in keys]
        return training, validation

    _, validation = split("all", keys)
    assert 10 <= len(validation) <= 30
    assert set(split("half", keys[::2])[1]) <= set(validation)  # an image keeps its part
    assert [len(part) for part in split("two", ["000.jpg", "001.jpg"])] == [1, 1]
    assert [len(part) for part in split("one", ["000.jpg"])] == [1, 0]


def test_masks_are_polygons(
    tmp_path: Path, export: Export, caplog: pytest.LogCaptureFixture
) -> None:
    mask = np.zeros((20, 30), dtype=bool)
    mask[5:15, 10:25] = True
    mask[8:11, 12:20] = False  # a hole
    mask[1:3, 2:6] = True  # a second part
    found = [
        box(class_id, 0.5, 2, 1, 25, 15, mask_rle=encode_rle(one), mask_height=20, mask_width=30)
        for class_id, one in ((2, mask), (1, np.zeros_like(mask)))
    ]
    folder = export(
        made_run(tmp_path / "run", [Row("a.jpg", (20, 30), found)], "instances"), "yolo"
    )
    (line,) = read_label_files(folder)["a.txt"].splitlines()
    class_id, *values = line.split()
    corners = np.array(values, float).reshape(-1, 2) * (30, 20)
    runs = coco_mask.merge(coco_mask.frPyObjects([corners.ravel().tolist()], 20, 30))
    assert class_id == "1" and np.array_equal(coco_mask.decode(runs).astype(bool), mask)
    assert "1 masks have no pixels" in caplog.text
