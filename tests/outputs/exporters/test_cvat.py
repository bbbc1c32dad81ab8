"""CVAT's XML, read as CVAT documents it."""

import json
from collections.abc import Callable
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np
import pytest
from defusedxml import ElementTree

from pipeline.ops.masks import encode_rle
from tests.helpers.made_runs import Row, box, made_run

Export = Callable[..., Path]


def load(folder: Path) -> Element:
    return ElementTree.parse(folder / "annotations.xml").getroot()


def decode_mask(shape: Element, size_hw: tuple[int, int]) -> np.ndarray:
    """Decode runs along the rows of the mask's box; the first run is outside the mask."""
    left, top, width, height = (
        int(shape.attrib[name]) for name in ("left", "top", "width", "height")
    )
    runs = [int(one) for one in shape.attrib["rle"].split(",")]
    part = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(height, width)
    mask = np.zeros(size_hw, dtype=bool)
    mask[top : top + height, left : left + width] = part
    return mask


def test_no_predictions_are_an_image_without_shapes(tmp_path: Path, export: Export) -> None:
    folder = export(made_run(tmp_path / "run", [Row("sub/a.jpg", (3, 4))]), "cvat")
    root = load(folder)
    assert root.find("version").text == "1.1" and root.find("meta/task/name").text == "run"
    assert [one.text for one in root.findall("meta/task/labels/label/name")] == [
        "dog",
        "cat",
        "stop sign",
    ]
    assert [one["name"] for one in json.loads((folder / "labels.json").read_text())] == [
        "dog",
        "cat",
        "stop sign",
    ]
    (image,) = root.findall("image")
    assert (
        image.attrib == {"id": "0", "name": "sub/a.jpg", "width": "4", "height": "3"}
        and len(image) == 0
    )


def test_a_box_and_its_score(tmp_path: Path, export: Export) -> None:
    root = load(
        export(
            made_run(tmp_path / "run", [Row("a.jpg", found=[box(3, 0.875, 1.25, 2, 10.5, 20)])]),
            "cvat",
        )
    )
    (one,) = root.find("image")
    corners = {"xtl": "1.250", "ytl": "2.000", "xbr": "10.500", "ybr": "20.000"}
    assert one.tag == "box"
    assert (
        one.attrib
        == {"label": "stop sign", "source": "auto", "occluded": "0", "z_order": "0"} | corners
    )
    assert (
        one.find("attribute").attrib == {"name": "score"} and one.find("attribute").text == "0.875"
    )


@pytest.mark.parametrize("task", ["instances", "segment"])
def test_masks_come_back(task: str, tmp_path: Path, export: Export) -> None:
    mask = np.random.default_rng(0).random((20, 30)) > 0.5
    mask[:, :3] = mask[0] = mask[-1] = False
    columns = {"mask_rle": encode_rle(mask), "mask_height": 20, "mask_width": 30}
    found = (
        box(1, 0.5, 9, 4, 26, 10, **columns)
        if task == "instances"
        else {"class_id": 1, "score": 0.5} | columns
    )
    found |= {"pixels": 60, "share": 0.1} if task == "segment" else {}
    root = load(export(made_run(tmp_path / "run", [Row("a.jpg", (20, 30), [found])], task), "cvat"))
    shapes = {one.tag: one for one in root.find("image")}
    assert np.array_equal(decode_mask(shapes["mask"], (20, 30)), mask)
    assert shapes.keys() == ({"box", "mask"} if task == "instances" else {"mask"})
    assert {one.attrib.get("group_id") for one in shapes.values()} == (
        {"1"} if task == "instances" else {None}
    )


def test_a_mask_without_a_pixel_is_no_shape(tmp_path: Path, export: Export) -> None:
    empty = {
        "mask_rle": encode_rle(np.zeros((20, 30), dtype=bool)),
        "mask_height": 20,
        "mask_width": 30,
    }
    rows = [Row("a.jpg", (20, 30), [box(1, 0.5, 0, 0, 9, 9, **empty)])]
    assert [
        one.tag
        for one in load(export(made_run(tmp_path / "run", rows, "instances"), "cvat")).find("image")
    ] == ["box"]


def test_points_are_grouped_with_their_box(tmp_path: Path, export: Export) -> None:
    points = [
        {"x": 3.5, "y": 4.5, "visibility": 1.0, "score": 2.0},
        {"x": 5.0, "y": 6.0, "visibility": 1.0, "score": -1.0},
    ]
    found = [box(1, score, 0, 0, 9, 9, keypoints=points) for score in (0.9, 0.5)]
    root = load(
        export(
            made_run(
                tmp_path / "run",
                [Row("a.jpg", found=found)],
                "keypoints",
                keypoint_names=("nose", "eye"),
            ),
            "cvat",
        )
    )
    assert [(one.tag, one.attrib["group_id"]) for one in root.find("image")] == [
        ("box", "1"),
        ("points", "1"),
        ("box", "2"),
        ("points", "2"),
    ]
    assert root.find("image/points").attrib["points"] == "3.500,4.500;5.000,6.000"


def test_classes_of_an_image_are_tags(tmp_path: Path, export: Export) -> None:
    found = [{"class_id": 2, "score": 0.75, "rank": 1}, {"class_id": 1, "score": 0.25, "rank": 2}]
    root = load(export(made_run(tmp_path / "run", [Row("a.jpg", found=found)], "classify"), "cvat"))
    assert [
        (one.tag, one.attrib["label"], one.find("attribute").text) for one in root.find("image")
    ] == [
        ("tag", "cat", "0.75"),
        ("tag", "dog", "0.25"),
    ]
