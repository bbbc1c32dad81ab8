"""Pascal VOC's XML, as the standard library and torchvision read it."""

from collections.abc import Callable
from pathlib import Path

import pytest
from defusedxml import ElementTree

from tests.helpers.made_runs import Row, box, made_run
from tests.helpers.pictures import picture

Export = Callable[..., Path]


def test_no_predictions_are_no_objects(tmp_path: Path, export: Export) -> None:
    folder = export(made_run(tmp_path / "run", [Row("sub/a.jpg", (3, 4))]), "voc")
    root = ElementTree.parse(folder / "Annotations" / "sub" / "a.xml").getroot()
    assert {one.tag: one.text for one in root.find("size")} == {
        "width": "4",
        "height": "3",
        "depth": "3",
    }
    assert root.find("filename").text == "sub/a.jpg" and root.findall("object") == []
    assert (folder / "ImageSets/Main/trainval.txt").read_text() == "sub/a\n"


def test_pixels_are_counted_from_1_and_the_last_one_belongs_to_the_box(
    tmp_path: Path, export: Export
) -> None:
    rows = [
        Row(
            "a.jpg",
            (30, 40),
            [
                box(1, 0.5, 0, 0, 40, 30),
                box(2, 0.5, 1.25, 2.5, 10.75, 20),
                box(1, 0.5, 3, 3, 3.5, 9),
            ],
        )
    ]
    folder = export(made_run(tmp_path / "run", rows), "voc")
    objects = ElementTree.parse(folder / "Annotations" / "a.xml").getroot().findall("object")
    boxes = [
        [float(one.find(f"bndbox/{side}").text) for side in ("xmin", "ymin", "xmax", "ymax")]
        for one in objects
    ]
    assert boxes == [[1, 1, 40, 30], [2.25, 3.5, 10.75, 20], [4, 4, 4, 9]]
    assert [one.find("name").text for one in objects] == ["dog", "cat", "dog"]


def test_class_names_are_escaped(tmp_path: Path, export: Export) -> None:
    names = ("__background__", "<b>&\x01", "]]>")
    folder = export(
        made_run(
            tmp_path / "run", [Row("a.jpg", (9, 9), [box(1, 0.5, 0, 0, 9, 9)])], categories=names
        ),
        "voc",
    )
    assert (
        ElementTree.parse(folder / "Annotations" / "a.xml").getroot().find("object/name").text
        == "<b>&\ufffd"
    )


def test_torchvision_reads_it(tmp_path: Path, export: Export) -> None:
    from torchvision.datasets import VOCDetection

    (tmp_path / "in").mkdir()
    picture(40, 30).save(tmp_path / "in" / "a.jpg")
    run = made_run(
        tmp_path / "run",
        [Row("a.jpg", (30, 40), [box(1, 0.5, 0, 0, 40, 30)])],
        input=tmp_path / "in",
    )
    export(run, "voc", "images=copy", f"output={tmp_path / 'VOCdevkit' / 'VOC2012'}")
    ((image, target),) = VOCDetection(str(tmp_path), image_set="trainval")
    assert image.size == (40, 30)
    assert target["annotation"]["object"][0]["bndbox"] == {
        "xmin": "1.0000",
        "ymin": "1.0000",
        "xmax": "40.0000",
        "ymax": "30.0000",
    }


def test_the_label_map_has_the_classes(
    tmp_path: Path, export: Export, caplog: pytest.LogCaptureFixture
) -> None:
    names = ("__background__", "dog", "stop sign", "a:b", "#c")
    folder = export(made_run(tmp_path / "run", [Row("a.jpg")], categories=names), "voc")
    lines = ["# label:color_rgb:parts:actions", "background:::", "dog:::", "stop sign:::"]
    assert (folder / "labelmap.txt").read_text().splitlines() == lines
    assert "cannot hold the class names 'a:b', '#c'" in caplog.text
