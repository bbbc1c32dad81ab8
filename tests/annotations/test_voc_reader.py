"""Pascal VOC's folders."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.annotations.voc_reader import NAMES, parse_xml
from pipeline.core.errors import ConfigError
from tests.annotations.test_coco_reader import DOG, example
from tests.training.datasets.test_files import found, opened
from tests.training.made_sets import SCENES, paint, write_voc

BOMB = '<!DOCTYPE a [<!ENTITY b "bbbb"><!ENTITY c "&b;&b;">]><annotation>&c;</annotation>'


def annotate(folder: Path, name: str, *objects: str, more: str = "") -> Path:
    """Rewrite an annotation with these <object>s."""
    text = "".join(f"<object>{one}</object>" for one in objects)
    (folder / "Annotations" / f"{name}.xml").write_text(f"<annotation>{more}{text}</annotation>")
    return folder


def box(x_min: object, y_min: object, x_max: object, y_max: object, name: str = "cat") -> str:
    sides = zip(("xmin", "ymin", "xmax", "ymax"), (x_min, y_min, x_max, y_max), strict=True)
    corners = "".join(f"<{side}>{value}</{side}>" for side, value in sides)
    return f"<name>{name}</name><bndbox>{corners}</bndbox>"


def test_pixels_count_from_one_and_the_last_belongs_to_the_box(tmp_path: Path) -> None:
    data = opened(annotate(write_voc(tmp_path), "a", box(1, 1, 64, 48), box(10.5, 7, 10.5, 7)))
    assert example(data, "Annotations/a.xml").target["boxes"].tolist() == [
        [0, 0, 64, 48],
        [9.5, 6, 10.5, 7],
    ]


@pytest.mark.parametrize(
    ("objects", "message"),
    [
        (
            [box(10, 10, 66, 20)],
            "object 1: the box 9 9 66 20 .* lies outside of the image of 64x48 by 2.0 pixels",
        ),
        ([box(-3, 10, 50, 20)], "object 1: the box .* lies outside"),
        ([box(10, 10, 9, 20)], "object 1: the box .* is empty"),
        ([box(1, 1, 9, 9), box(10, 10, 9, 20)], "object 2: the box .* is empty"),
        ([box("x", 10, 9, 20)], "could not convert"),
        (["<name>cat</name>"], "an object has no bndbox, xmin"),
        (["<bndbox/>"], "an object has no name"),
        (["<name> </name>"], "an object has no name"),
        (["<name>"], "mismatched tag"),
    ],
)
def test_what_is_wrong_is_named(objects: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"Annotations/a.xml: {message}"):
        opened(annotate(write_voc(tmp_path), "a", *objects))


def test_sizes_are_compared_where_they_are_said(tmp_path: Path) -> None:
    folder = write_voc(tmp_path)
    said = "<size><width>{}</width><height>48</height></size>"
    opened(annotate(folder, "a", box(1, 1, 9, 9), more=said.format(0)))  # some programs write that
    with pytest.raises(ConfigError, match=r"a.xml: the annotation says 65x48, the file has 64x48"):
        opened(annotate(folder, "a", box(1, 1, 9, 9), more=said.format(65)))


def test_entities_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="document type declaration"):
        parse_xml(BOMB.encode("utf-16"))
    folder = write_voc(tmp_path)
    (folder / "Annotations" / "a.xml").write_text(BOMB)
    with pytest.raises(ConfigError, match=r"a.xml: it has a document type declaration"):
        opened(folder)


def test_parts_by_lists(tmp_path: Path) -> None:
    folder = write_voc(tmp_path, train="a c", val="b")
    (folder / "ImageSets" / "Main" / "val.txt").write_text("b  1\n")  # as VOC's lists of one class
    data = opened(folder)
    assert [data.training.name(i) for i in range(2)] == ["Annotations/a.xml", "Annotations/c.xml"]
    assert data.validation.name(0) == "Annotations/b.xml"


def test_a_list_that_is_no_text(tmp_path: Path) -> None:
    folder = write_voc(tmp_path, train="a c")
    (folder / "ImageSets" / "Main" / "train.txt").write_bytes(b"a\xff\n")
    with pytest.raises(ConfigError, match="no text in UTF-8"):
        opened(folder)


def test_an_image_of_a_list_without_an_annotation(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"Annotations/gone.xml: No such file"):
        opened(write_voc(tmp_path, train="a b gone"))


def test_an_annotation_without_an_image(tmp_path: Path) -> None:
    folder = write_voc(tmp_path)
    (folder / "JPEGImages" / "a.png").unlink()
    with pytest.raises(
        ConfigError, match=r"Annotations/a.xml: there is no file .*JPEGImages/a.png"
    ):
        opened(folder)


def test_an_image_goes_by_the_annotations_name_where_it_names_none(tmp_path: Path) -> None:
    data = opened(annotate(write_voc(tmp_path), "a", box(1, 1, 9, 9, "dog")))
    assert example(data, "Annotations/a.xml").target["labels"].tolist() == [2]


def test_a_list_of_classes(tmp_path: Path) -> None:
    folder = write_voc(tmp_path)
    (folder / "labels.txt").write_text("_background_\ndog\ncat\n")
    data = opened(folder)
    assert data.categories == ("__background__", "dog", "cat")
    assert set(found(data.training, data.validation, names=data.categories)["b"]) == {
        ("cat", 0, 0, 48, 64)
    }
    (folder / "labels.txt").write_text("dog\n")
    with pytest.raises(
        ConfigError,
        match=r"a.xml: object 2: the class 'cat' is not in the list(?s:.*)b.xml: object 1",
    ):
        opened(folder)


# --- label maps


def write_maps(folder: Path, mode: str = "P", value: int = 12, **parts: str) -> Path:
    (folder / "SegmentationClass").mkdir(parents=True)
    for scene in SCENES[:2]:
        paint(scene, folder / "JPEGImages")
        values = np.zeros(scene.size[::-1], np.uint8)
        values[6:40, 4:30] = value
        values[:2] = 255
        image = Image.fromarray(values)
        if mode == "P":
            image.putpalette(list(range(256)) * 3)  # the values become indices
        (image if mode in ("P", "L") else image.convert(mode)).save(
            folder / "SegmentationClass" / scene.name
        )
    for part, names in parts.items():
        (folder / "ImageSets" / "Segmentation").mkdir(parents=True, exist_ok=True)
        (folder / "ImageSets" / "Segmentation" / f"{part}.txt").write_text("\n".join(names.split()))
    return folder


@pytest.mark.parametrize("mode", ["P", "L"])
def test_a_label_map_is_the_target(mode: str, tmp_path: Path) -> None:
    data = opened(write_maps(tmp_path, mode), "segment")
    assert data.categories == ("__background__", *NAMES)
    mask = example(data, "SegmentationClass/a.png").target["mask"].numpy()
    assert (
        (mask[DOG] == NAMES.index("dog") + 1).all()
        and (mask[:2] == 255).all()
        and mask.dtype == np.int64
    )
    assert sorted(np.unique(mask).tolist()) == [0, 12, 255]


def test_of_a_label_map_only_some_classes_are_learnt(tmp_path: Path) -> None:
    folder = write_maps(tmp_path, value=2)
    (folder / "classes.txt").write_text("cat\ndog\n")
    mask = (
        example(opened(folder, "segment", classes=["dog"]), "SegmentationClass/a.png")
        .target["mask"]
        .numpy()
    )
    assert sorted(np.unique(mask).tolist()) == [0, 1, 255]


def test_a_label_map_of_other_data_goes_by_the_classes_names(tmp_path: Path) -> None:
    first, second = write_maps(tmp_path / "a", value=2), write_maps(tmp_path / "b", value=1)
    (first / "labels.txt").write_text("cat\ndog\n")
    (second / "labels.txt").write_text("dog\nbird\n")
    data = opened(first, "segment", validation=str(second))
    assert sorted(data.validation.example(0, 0).target["mask"].unique().tolist()) == [0, 2, 255]
    (second / "labels.txt").write_text("bird\n")
    with pytest.raises(
        ConfigError, match=r"SegmentationClass/a.png: the class 'bird' is none of those"
    ):
        opened(first, "segment", validation=str(second))


@pytest.mark.parametrize(
    ("mode", "value", "message"),
    [
        ("P", 21, "its label map has the class 21; expected 0 to 20, or 255"),
        ("RGB", 1, "has pixels of mode RGB; expected P or L"),
    ],
)
def test_what_is_no_label_map_is_named(mode: str, value: int, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"SegmentationClass/a.png: (a.png )?{message}"):
        opened(write_maps(tmp_path, mode, value), "segment")


def test_a_label_map_that_is_not_there_or_broken(tmp_path: Path) -> None:
    folder = write_maps(tmp_path, train="a b gone")
    (folder / "SegmentationClass" / "b.png").write_bytes(
        (folder / "SegmentationClass" / "b.png").read_bytes()[:60]
    )
    paint(SCENES[3], folder / "JPEGImages")
    (folder / "JPEGImages" / "d.png").rename(folder / "JPEGImages" / "gone.png")
    with pytest.raises(ConfigError, match=r"(?s)2 problems.*b.png: .*gone.png: No such file"):
        opened(folder, "segment")


def test_boxes_need_annotations(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="for task=detect expected a folder Annotations"):
        opened(write_maps(tmp_path))


LABELMAP = (
    "# label:color_rgb:parts:actions\nbackground:0,0,0::\nsky:9,9,9::\ndog:200,0,7::\nbird:::\n"
)


@pytest.mark.parametrize("mode", ["RGB", "P"])
def test_labelmap_gives_classes_and_colours(mode: str, tmp_path: Path) -> None:
    folder = write_maps(tmp_path)
    for scene in SCENES[:3]:
        values = np.zeros((*scene.size[::-1],), np.uint8)
        values[6:40, 4:30] = 1
        image = Image.fromarray(values)
        image.putpalette([0, 0, 0, 200, 0, 7])
        image.convert(mode).save(folder / "SegmentationClass" / scene.name)
    (folder / "labelmap.txt").write_text(LABELMAP)
    data = opened(folder, "segment", validation=0.3)
    assert data.categories == ("__background__", "sky", "dog", "bird")
    mask = example(data, "SegmentationClass/a.png").target["mask"].numpy()
    assert (mask[DOG] == 2).all() and sorted(np.unique(mask).tolist()) == [0, 2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cat:1,2,3::\ndog:1,2,3::\n", "two classes have the colour 1,2,3"),
        ("cat:1,2::\n", "expected name:red,green,blue"),
        ("cat:1,2,300::\n", "expected name:red,green,blue"),
        ("cat:::\ncat:::\n", "a class stands in it twice"),
    ],
)
def test_what_is_no_labelmap_is_named(text: str, message: str, tmp_path: Path) -> None:
    folder = write_maps(tmp_path)
    (folder / "labelmap.txt").write_text(text)
    with pytest.raises(ConfigError, match=f"labelmap.txt: {message}"):
        opened(folder, "segment")
