"""COCO's JSON: masks, keypoints, crowds, and where images lie."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.core.errors import ConfigError
from pipeline.ops.masks import encode_rle
from pipeline.training.examples.annotated_set import AnnotatedSet
from tests.training.datasets.test_files import opened
from tests.training.made_sets import SCENES, Scene, coco_of, images, paint, write_coco

SIZE_HW = (48, 64)  # of a.png
POINTS = ["nose", "left_eye", "right_eye"]


def example(data: Any, name: str = "a.png") -> Any:
    part, number = next(
        (part, i)
        for part in (data.training, data.validation)
        for i in range(len(part))
        if part.name(i).endswith(name)
    )
    return part.example(number, 0)


def box_mask(x_min: int, y_min: int, x_max: int, y_max: int) -> np.ndarray:
    mask = np.zeros(SIZE_HW, bool)
    mask[y_min:y_max, x_min:x_max] = True
    return mask


def counts_of(mask: np.ndarray) -> list[int]:
    """Uncompressed run lengths, column by column."""
    flat = mask.T.ravel()
    edges = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff([0, *edges, flat.size]).tolist()
    return [0, *runs] if flat[0] else runs


DOG = box_mask(4, 6, 30, 40)


@pytest.mark.parametrize(
    "segmentation",
    [
        [[4, 6, 30, 6, 30, 40, 4, 40]],
        [[4, 6, 17, 6, 17, 40, 4, 40], [17, 6, 30, 6, 30, 40, 17, 40]],
        {"size": list(SIZE_HW), "counts": encode_rle(DOG)},
        {"size": list(SIZE_HW), "counts": counts_of(DOG)},
    ],
    ids=["polygon", "two polygons", "compressed", "uncompressed"],
)
def test_every_kind_of_mask(segmentation: Any, tmp_path: Path) -> None:
    content = coco_of()
    content["annotations"][0]["segmentation"] = segmentation
    target = example(opened(write_coco(tmp_path, content=content), "instances")).target
    assert target["masks"].shape == (2, *SIZE_HW) and target["labels"].tolist() == [2, 1]
    assert np.array_equal(target["masks"][0].numpy(), DOG)


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        (None, "it has no segmentation"),
        ([], "it has no segmentation"),
        ([[1, 2, 3, 4]], "fewer than three points"),
        ([[1, 2, 3, 4, 5, 6, 7]], "or half a point"),
        ([[1, 2, 3, 4, 80, 6]], "a polygon lies outside of the image by 16.0 pixels"),
        ([["x"] * 6], "annotation 1"),
        (
            {"size": [64, 48], "counts": [0, 64 * 48]},
            r"its mask has the size \[64, 48\]; expected .*\[48, 64\]",
        ),
        ({"size": [48, 64], "counts": [5, 6]}, "do not make a mask"),
        ({"size": [48, 64], "counts": ""}, "do not make a mask"),
        ({"size": [48, 64], "counts": 3}, "do not make a mask"),
        ({"counts": [5, 6]}, "it has no segmentation"),
    ],
)
def test_what_is_no_mask_is_named(segmentation: Any, message: str, tmp_path: Path) -> None:
    content = coco_of()
    content["annotations"][0]["segmentation"] = segmentation
    with pytest.raises(ConfigError, match=rf"a.png: annotation 1: .*{message}|a.png: {message}"):
        opened(write_coco(tmp_path, content=content), "instances")


def test_masks_are_no_matter_for_boxes(tmp_path: Path) -> None:
    content = coco_of()
    for one in content["annotations"]:
        del one["segmentation"]
    assert len(opened(write_coco(tmp_path, content=content), "detect").training)


def _crowd(content: dict[str, Any]) -> None:
    content["annotations"][1] |= {"iscrowd": 1, "bbox": [-50, 0, 1, 0]}  # nobody needs its box


def test_crowds_are_no_objects(tmp_path: Path) -> None:
    content = coco_of()
    _crowd(content)
    target = example(opened(write_coco(tmp_path, content=content), "instances")).target
    assert target["labels"].tolist() == [2] and target["masks"].shape[0] == 1


def test_pixels_have_the_class_of_their_object(tmp_path: Path) -> None:
    content = coco_of()
    content["annotations"][0]["segmentation"] = [
        [4, 6, 36, 6, 36, 40, 4, 40]
    ]  # the dog reaches into the cat, x from 32
    data = opened(write_coco(tmp_path, content=content), "segment")
    mask = example(data).target["mask"]
    dog, cat = box_mask(4, 6, 36, 40), box_mask(32, 8, 60, 44)
    expected = np.where(dog & cat, 255, np.where(dog, 2, np.where(cat, 1, 0)))
    assert mask.dtype == torch.int64 and np.array_equal(mask.numpy(), expected)
    assert not example(data, "c.png").target["mask"].any()


def test_in_a_crowd_nothing_counts(tmp_path: Path) -> None:
    content = coco_of()
    _crowd(content)
    mask = example(opened(write_coco(tmp_path, content=content), "segment")).target["mask"].numpy()
    assert (mask[box_mask(32, 8, 60, 44)] == 255).all() and (mask[DOG] == 2).all()


def test_pixels_of_classes_that_are_not_learnt_are_background(tmp_path: Path) -> None:
    mask = example(opened(write_coco(tmp_path), "segment", classes=["cat"])).target["mask"].numpy()
    assert not mask[DOG].any() and (mask[box_mask(32, 8, 60, 44)] == 1).all()


# --- keypoints


def _with_points(points: Any) -> dict[str, Any]:
    content = coco_of()
    content["categories"][1]["keypoints"] = POINTS
    content["annotations"][0]["keypoints"] = points
    return content


def test_keypoints(tmp_path: Path) -> None:
    content = _with_points([5, 7, 2, 9, 9, 1, 99, 99, 0])
    content["annotations"][2]["keypoints"] = [1, 1, 2] * 3  # another image to learn from
    data = opened(write_coco(tmp_path, content=content), "keypoints", validation=0.3)
    assert data.keypoint_names == tuple(POINTS)
    points = example(data).target["keypoints"]
    assert points.dtype == torch.float32
    assert points.tolist() == [
        [[5, 7, 2], [9, 9, 1], [0, 0, 0]],
        [[0, 0, 0]] * 3,
    ]  # the cat's are not labelled


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ([5, 7, 2], "it has 3 keypoint values"),
        ([5, 7, 2, 70, 9, 1, 0, 0, 0], "keypoint 2, at 70 9, lies outside"),
        ([5, 7, 2, 9, 9, 3, 0, 0, 0], "keypoint 2 has the visibility 3"),
    ],
)
def test_what_is_no_keypoint_is_named(points: list[float], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"a.png: annotation 1: {message}"):
        opened(write_coco(tmp_path, content=_with_points(points)), "keypoints")


def test_keypoints_need_names(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the categories name 0 lists of keypoints"):
        opened(write_coco(tmp_path), "keypoints")


# --- images and categories


@pytest.mark.parametrize(
    ("place", "file"),
    [
        ("images", "set.json"),
        (".", "set.json"),
        ("val2017", "annotations/instances_val2017.json"),
        ("images/val2017", "annotations/instances_val2017.json"),
    ],
)
def test_images_are_found(place: str, file: str, tmp_path: Path) -> None:
    for scene in SCENES:
        paint(scene, tmp_path / place)
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(json.dumps(coco_of()))
    assert len(images(opened(tmp_path / file, validation=0.3).training)) == 3


def test_images_are_where_the_settings_say(tmp_path: Path) -> None:
    file = write_coco(tmp_path / "set")
    paint(Scene("a.png", (64, 48)), tmp_path / "other")
    with pytest.raises(ConfigError, match=r"3 problems(?s:.*)there is no file .*other/b.png"):
        opened(file, images=str(tmp_path / "other"))


def test_validation_finds_its_own_images_before_those_of_the_data(tmp_path: Path) -> None:
    data, other = write_coco(tmp_path / "data"), write_coco(tmp_path / "val")
    found = opened(data, images=str(tmp_path / "data" / "images"), validation=str(other)).validation
    assert isinstance(found, AnnotatedSet)
    assert {one.path.parent for one in images(found)} == {tmp_path / "val" / "images"}


@pytest.mark.parametrize("name", ["background", "__background__"])
def test_a_background_is_no_class(name: str, tmp_path: Path) -> None:
    content = coco_of()
    content["categories"].append({"id": 0, "name": name})
    assert opened(write_coco(tmp_path, content=content)).categories == (
        "__background__",
        "cat",
        "dog",
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected COCO's format"),
        ("[]", "expected COCO's format"),
        ("{", "expected COCO's format"),
        ("\x00", "COCO's"),
        ("[" * 100_000, "RecursionError"),
        (
            '{"images": [], "annotations": [], "categories": [{"id": 1e999, "name": "a"}]}',
            "neither a whole number nor text",
        ),
    ],
)
def test_what_is_no_such_file(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "set.json").write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        opened(tmp_path / "set.json")
    assert re.search("set.json", str(caught.value))
