"""Annotated files as examples: equal from every format, checked, and split into parts."""

import json
import logging
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.config.instantiate import instantiate
from pipeline.core.errors import ConfigError
from pipeline.training.data_protocols import TrainingData
from pipeline.training.datasets.files import Files
from pipeline.training.examples.annotated_set import AnnotatedSet
from tests.helpers.paths import shared
from tests.helpers.runs import settings_for
from tests.training.made_sets import (
    SCENES,
    Scene,
    coco_of,
    images,
    paint,
    write_classes,
    write_coco,
    write_voc,
    write_yolo,
)


def opened(data: Path | str, task: str = "detect", **more: Any) -> Files:
    given = {
        "images": None,
        "validation": 0.1,
        "seed": 0,
        "max_pixels": 10**6,
        "classes": None,
    } | more
    return Files(data=str(data), task=task, **given)


def found(*parts: AnnotatedSet, names: tuple[str, ...]) -> dict[str, list[tuple[Any, ...]]]:
    """Map each image's stem to its sorted objects: (class name, box in whole pixels)."""
    objects = {}
    for part in parts:
        for i in range(len(part)):
            target = part.example(i, 0).target
            pairs = zip(
                target["labels"].tolist(), target["boxes"].round().int().tolist(), strict=True
            )
            objects[Path(part.name(i)).stem] = sorted((names[label], *box) for label, box in pairs)
    return objects


EXPECTED = {Path(scene.name).stem: sorted(scene.objects) for scene in SCENES}


@pytest.mark.parametrize("write", [write_coco, write_yolo, write_voc])
def test_every_format_gives_the_same_objects(write: Callable[[Path], Path], tmp_path: Path) -> None:
    data = opened(write(tmp_path / "set"), validation=0.3)
    assert data.categories == ("__background__", "cat", "dog")
    assert found(data.training, data.validation, names=data.categories) == EXPECTED


@pytest.mark.parametrize("write", [write_coco, write_yolo, write_voc])
def test_boxes_are_given_without_decoding(write: Callable[[Path], Path], tmp_path: Path) -> None:
    data = opened(write(tmp_path / "set"))
    for file in tmp_path.rglob("*.png"):
        file.unlink()
    for part in (data.training, data.validation):
        for (size_hw, boxes), one in zip(part.boxes(), images(part), strict=True):
            scene = next(scene for scene in SCENES if Path(scene.name).stem == Path(one.name).stem)
            assert size_hw == scene.size[::-1] and boxes.dtype == np.float32
            np.testing.assert_allclose(
                boxes, np.array([box[1:] for box in scene.objects]).reshape(-1, 4), atol=1e-4
            )


def test_an_example_is_pixels_and_a_target_of_the_contract(tmp_path: Path) -> None:
    data: TrainingData = opened(write_coco(tmp_path), "instances")
    names = [data.training.name(i) for i in range(len(data.training))]
    example = data.training.example(names.index("c.png"), 0)
    assert example.image.shape == (3, 48, 64) and example.image.dtype == torch.uint8
    assert {name: (tuple(value.shape), value.dtype) for name, value in example.target.items()} == {
        "boxes": ((0, 4), torch.float32),
        "labels": ((0,), torch.int64),
        "masks": ((0, 48, 64), torch.uint8),
    }


def test_examples_survive_the_way_to_another_process(tmp_path: Path) -> None:
    part = opened(write_coco(tmp_path), "instances").training
    again = pickle.loads(pickle.dumps(part))  # noqa: S301 - our own bytes
    for i in range(len(part)):
        first, second = part.example(i, 0), again.example(i, 1)
        assert torch.equal(first.image, second.image)
        assert all(torch.equal(first.target[name], second.target[name]) for name in first.target)


def test_a_target_that_is_changed_in_place_is_the_same_the_next_time(tmp_path: Path) -> None:
    part = opened(write_coco(tmp_path)).training
    first = part.example(0, 0).target["boxes"].clone()
    part.example(0, 0).target["boxes"].zero_()
    assert torch.equal(part.example(0, 1).target["boxes"], first)


def test_a_file_that_changed_since_it_was_checked_is_no_example(tmp_path: Path) -> None:
    part = opened(write_coco(tmp_path)).training
    Image.new("RGB", (9, 9)).save(images(part)[0].path)
    with pytest.raises(Exception, match="when its annotations were checked"):
        part.example(0, 0)


# --- what is wrong is named


def _broken(change: Callable[[dict[str, Any]], Any], tmp_path: Path, task: str = "detect") -> str:
    content = coco_of()
    change(content)
    with pytest.raises(ConfigError) as caught:
        opened(write_coco(tmp_path, content=content), task)
    return str(caught.value)


def _set(number: int, **values: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda content: content["annotations"][number].update(values)


def _image(number: int, **values: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda content: content["images"][number].update(values)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_set(0, bbox=[40, 6, 30, 30]),
         r"a.png: annotation 1: the box 40 6 70 36 .* outside .* 64x48 by 6.0 pixels"),
        (_set(0, bbox=[-5, 6, 30, 30]), "a.png: annotation 1: the box -5 6 .* by 5.0 pixels"),
        (_set(0, bbox=[100, 6, 30, 30]), "a.png: annotation 1: .*outside"),
        (_set(0, bbox=[63.5, 6, -1, 30]), "a.png: annotation 1: the box .* is empty"),
        (_set(1, bbox=[10, 6, 30, 0]), "a.png: annotation 2: the box .* is empty"),
        # it would be, once resized
        (_set(1, bbox=[10, 6, 0.0005, 9]), "a.png: annotation 2: the box .* is empty"),
        # nothing is left when it is clipped
        (_set(1, bbox=[64, 6, 0.9, 10]), "a.png: annotation 2: the box"),
        (_set(1, bbox=[10, 6, float("nan"), 5]), "a.png: annotation 2: the box .* is empty"),
        (_set(1, bbox=[10, 6, float("inf"), 5]), "a.png: annotation 2: the box .* outside"),
        (_set(1, bbox=[10, 6]), "a.png: annotation 2: expected bbox="),
        (_set(1, bbox=None), "a.png: annotation 2: expected bbox="),
        (_set(1, bbox=[1, 2, "x", 3]), "a.png: annotation 2: "),
        (_set(2, category_id=99), "b.png: annotation 3: category_id 99 is none"),
        (_image(1, width=49), "b.png: the annotation says 49x64, the file has 48x64"),
        (_image(1, file_name="gone.png"), "gone.png: there is no file .*gone.png"),
        (_image(1, file_name="../set.json"), "../set.json: the content is no known image"),
        (_image(1, file_name="a.png", width=64, height=48), "a.png: two images have this name"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_its_file(
    change: Callable[[dict[str, Any]], Any], message: str, tmp_path: Path
) -> None:
    said = _broken(change, tmp_path)
    assert re.search(r"set.json: (a problem|2 problems),", said)
    assert re.search(message, said), said


def test_the_first_ten_problems_are_shown_and_the_rest_is_counted(tmp_path: Path) -> None:
    scenes = [Scene(f"{i:02d}.png", objects=(("cat", 1, 1, 9, 9),)) for i in range(14)]
    content = coco_of(scenes)
    for one in content["annotations"]:
        one["bbox"] = [1, 1, 0, 8]
    with pytest.raises(ConfigError) as caught:
        opened(write_coco(tmp_path, scenes, content))
    lines = str(caught.value).splitlines()
    assert "14 problems" in lines[0] and len(lines) == 12
    assert (
        lines[1].strip().startswith("00.png: annotation 1: ")
        and lines[-1].strip() == "and 4 more like these"
    )


@pytest.mark.parametrize(("by", "clipped"), [(0.5, True), (1.0, True), (1.2, False)])
def test_a_rounding_is_clipped(by: float, clipped: bool, tmp_path: Path) -> None:
    content = coco_of()
    content["annotations"][2]["bbox"] = [-by, 0, 48 + by, 64 + by]  # b.png is 48x64
    file = write_coco(tmp_path, content=content)
    if not clipped:
        with pytest.raises(ConfigError, match=r"b.png: annotation 3: .* by 1.2 pixels"):
            opened(file)
        return
    data = opened(file)
    boxes = {
        one.name: one.boxes_xyxy
        for part in (data.training, data.validation)
        for one in images(part)
    }
    assert boxes["b.png"].tolist() == [[0, 0, 48, 64]]


def test_a_broken_image_is_named(tmp_path: Path) -> None:
    file = write_coco(tmp_path)
    (tmp_path / "images" / "a.png").write_bytes(b"")
    (tmp_path / "images" / "b.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(20))
    (tmp_path / "images" / "c.png").write_text("not an image")
    with pytest.raises(
        ConfigError,
        match=r"(?s)3 problems.*a.png: .*zero bytes.*b.png: PNG.*c.png: the content is no known",
    ):
        opened(file)


def test_an_image_of_too_many_pixels_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"d.png: 80x40 is 3200 pixels, more than max_pixels=3100"
    ):
        opened(write_coco(tmp_path), max_pixels=3100)


@pytest.mark.parametrize("stored", [True, False])
def test_an_image_that_exif_turns(stored: bool, tmp_path: Path) -> None:
    """Boxes must be in the turned image (48x64). Boxes in the stored image are refused."""
    content = coco_of(SCENES[:2])
    scene = Scene("a.jpg", (64, 48))
    content["images"][0] |= {
        "file_name": "a.jpg",
        "width": 64 if stored else 48,
        "height": 48 if stored else 64,
    }
    content["annotations"][:2] = [content["annotations"][0] | {"bbox": [0, 0, 48, 48]}]
    file = write_coco(tmp_path, SCENES[1:2], content)
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.open(paint(scene, tmp_path / "images"))
    image.paste((250, 20, 20), (0, 0, 8, 48))  # the left edge: on top, when it is seen
    image.save(tmp_path / "images" / "a.jpg", exif=exif, quality=95)
    if stored:
        with pytest.raises(
            ConfigError,
            match=r"a.jpg: the annotation says 64x48, the file has 48x64; its EXIF orientation 6",
        ):
            opened(file)
        return
    data = opened(file, validation=0.5)
    part = next(part for part in (data.training, data.validation) if part.name(0) == "a.jpg")
    pixels = part.example(0, 0).image
    assert pixels.shape == (3, 64, 48)
    assert (pixels[0, :6] > 200).all() and (pixels[0, 12:] < 120).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content.update(images=[], annotations=[]), "there are no images"),
        (
            lambda content: content.update(annotations=[]),
            "none of its 4 images has an object of cat, dog",
        ),
        (lambda content: content.update(categories=None), "expected COCO's format"),
        (lambda content: content.pop("images"), r"expected COCO's format.*KeyError: 'images'"),
        (
            lambda content: content["categories"].append({"id": 3, "name": "bird"}),
            "two categories have one",
        ),
        (
            lambda content: content["categories"].append({"id": 9, "name": "cat"}),
            "two categories have one",
        ),
        (lambda content: content["images"].append(content["images"][0]), "two images have one id"),
        (
            lambda content: content.update(annotations=content["annotations"][:2]),
            "none for validation has an object",
        ),
    ],
)
def test_data_that_nothing_can_be_learnt_from(
    change: Callable[[dict[str, Any]], Any], message: str, tmp_path: Path
) -> None:
    assert re.search(message, _broken(change, tmp_path))


def test_what_is_no_data_set_gets_a_hint(tmp_path: Path) -> None:
    write_yolo(tmp_path / "yolo")
    for given, message in (
        (None, "train.data= is needed"),
        (str(tmp_path / "none"), "there is no such file or folder"),
        ("s3://bucket/set.json", "copy it here first"),
        (str(tmp_path / "yolo" / "labels"), "expected a .json file"),
        (str(tmp_path / "yolo" / "images" / "a.png"), "expected a .json file"),
    ):
        with pytest.raises(ConfigError, match=message):
            Files(data=given, images=None, validation=0.1, seed=0, max_pixels=10**6, task="detect")


@pytest.mark.parametrize("task", ["embed", "video"])
def test_a_task_that_nothing_is_trained_for(task: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"task={task}: nothing is trained for it"):
        opened(write_coco(tmp_path), task)


def test_boxes_are_no_classes_of_images(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="COCO's format has nothing for task=classify"):
        opened(write_coco(tmp_path), "classify")


# --- parts


def _names(part: AnnotatedSet) -> list[str]:
    return [part.name(i) for i in range(len(part))]


def _many(count: int) -> list[Scene]:
    return [
        Scene(f"{i:02d}.png", objects=(("cat", 1, 1, 9, 9),) if i % 2 else ()) for i in range(count)
    ]


def test_a_part_is_drawn_by_the_seed(tmp_path: Path) -> None:
    file = write_coco(tmp_path, _many(20), coco_of(_many(20)))
    drawn = {seed: _names(opened(file, validation=0.2, seed=seed).validation) for seed in range(6)}
    assert (
        all(len(names) == 4 for names in drawn.values())
        and len(set(map(tuple, drawn.values()))) > 1
    )
    again = opened(file, validation=0.2, seed=3)
    assert _names(again.validation) == drawn[3]
    assert sorted(_names(again.training) + _names(again.validation)) == [
        f"{i:02d}.png" for i in range(20)
    ]
    # of images with objects and of those without
    assert all(sum(int(name[:2]) % 2 for name in names) == 2 for names in drawn.values())


def test_the_order_of_the_file_does_not_matter_for_what_is_drawn(tmp_path: Path) -> None:
    content = coco_of(_many(20))
    first = _names(opened(write_coco(tmp_path, _many(20), content), validation=0.2).validation)
    content["images"].reverse()
    assert (
        _names(opened(write_coco(tmp_path, _many(20), content), validation=0.2).validation)
        == first[::-1]
    )


def test_a_small_part_is_an_image_at_least(tmp_path: Path) -> None:
    data = opened(write_coco(tmp_path), validation=0.01)
    assert any(len(one.labels) for one in images(data.validation))


def test_no_part_is_no_validation(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="none for validation has an object"):
        opened(write_coco(tmp_path), validation=0.0)


def test_validation_has_its_own_data_whose_classes_go_by_name(tmp_path: Path) -> None:
    scenes = (Scene("v.png", objects=(("dog", 3, 3, 20, 20),)),)
    other = coco_of(scenes, ("dog", "cat"))  # other ids
    data = opened(
        write_coco(tmp_path / "a"), validation=str(write_coco(tmp_path / "b", scenes, other))
    )
    assert len(data.training) == 4 and found(data.validation, names=data.categories) == {
        "v": [("dog", 3, 3, 20, 20)]
    }


def test_a_class_that_only_validation_has_is_named(tmp_path: Path) -> None:
    scenes = (Scene("v.png", objects=(("bird", 3, 3, 20, 20), ("dog", 3, 3, 20, 20))),)
    other = write_coco(tmp_path / "b", scenes, coco_of(scenes, ("bird", "dog", "unused")))
    with pytest.raises(
        ConfigError,
        match=r"(?s)train.validation=.*v.png: annotation 1: the class 'bird' is none of those",
    ):
        opened(write_coco(tmp_path / "a"), validation=str(other))
    data = opened(
        write_coco(tmp_path / "c"), validation=str(other), classes=["dog"]
    )  # what is not learnt is not judged
    assert found(data.validation, names=data.categories) == {"v": [("dog", 3, 3, 20, 20)]}


def test_validation_without_objects_is_refused(tmp_path: Path) -> None:
    scenes = (Scene("v.png"),)
    with pytest.raises(ConfigError, match="none for validation has an object"):
        opened(
            write_coco(tmp_path / "a"),
            validation=str(write_coco(tmp_path / "b", scenes, coco_of(scenes))),
        )


def test_images_that_are_in_both_parts_are_told_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = write_coco(tmp_path)
    opened(file, validation=str(file))
    assert "4 images are in both the training and the validation part" in caplog.text


def test_a_class_without_objects_is_told_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    opened(write_coco(tmp_path, content=coco_of(names=("cat", "dog", "newt"))))
    assert "No object to learn from: newt." in caplog.text


# --- classes


def test_only_some_classes_are_learnt(tmp_path: Path) -> None:
    data = opened(write_coco(tmp_path), classes=["dog"], validation=0.5)
    assert data.categories == ("__background__", "dog")
    expected = {
        name: [one for one in objects if one[0] == "dog"] for name, objects in EXPECTED.items()
    }
    assert found(data.training, data.validation, names=data.categories) == expected


@pytest.mark.parametrize(
    ("classes", "expected"), [(["Dog"], ("Dog",)), (["dog"], ("dog",)), (["DOG"], None)]
)
def test_a_class_is_chosen_by_its_exact_name(
    classes: list[str], expected: tuple[str, ...] | None, tmp_path: Path
) -> None:
    content = json.loads(write_coco(tmp_path).read_text())
    for category, name in zip(content["categories"], ["dog", "Dog"], strict=False):
        category["name"] = name
    (tmp_path / "t.json").write_text(json.dumps(content))
    if expected is None:
        with pytest.raises(ConfigError, match="'DOG' could be any of the classes"):
            opened(tmp_path / "t.json", classes=classes)
        return
    data = opened(
        tmp_path / "t.json", images=str(tmp_path / "images"), classes=classes, validation=0.5
    )
    assert data.names == expected


def test_classes_of_a_validation_set_may_be_spelled_in_another_way(tmp_path: Path) -> None:
    file = write_coco(tmp_path / "a")
    other = json.loads(write_coco(tmp_path / "b").read_text())
    for category in other["categories"]:
        category["name"] = category["name"].upper()
    path = file.parent.parent / "b" / "upper.json"
    path.write_text(json.dumps(other))
    data = opened(file, validation=str(path))
    assert len(data.validation) == len(opened(file, validation=str(file)).validation)


def test_a_class_that_there_is_not_gets_a_hint(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"has no class 'dgo'. Did you mean 'dog'"):
        opened(write_coco(tmp_path), classes=["dgo"])


# --- which data it was


def test_the_identity_tells_data_apart(tmp_path: Path) -> None:
    file = write_coco(tmp_path)
    first = dict(opened(file).identity)
    assert dict(opened(file).identity) == first
    others = [opened(file, seed=1), opened(file, validation=0.5), opened(file, classes=["dog"])]
    paint(
        Scene("c.png", objects=(("dog", 1, 1, 9, 9),)), tmp_path / "images"
    )  # another file of the same name
    others.append(opened(file))
    content = json.loads(file.read_text())
    content["annotations"][0]["bbox"][0] += 1
    file.write_text(json.dumps(content))
    others.append(opened(file))
    assert (
        len(
            {
                json.dumps(dict(one), sort_keys=True)
                for one in (first, *(one.identity for one in others))
            }
        )
        == 6
    )


# --- through the settings


def test_the_shipped_configuration_builds_it(tmp_path: Path) -> None:
    write_classes(tmp_path, cat=3, dog=2)
    settings = settings_for(
        "task=classify", f"train.data={tmp_path}", "train.validation=0.4", "classes=[dog,cat]"
    )
    data = instantiate(settings.components["examples"], task=settings.task)
    assert data.categories == ("cat", "dog") and (len(data.training), len(data.validation)) == (
        3,
        2,
    )


@pytest.mark.parametrize("task", ["detect", "instances", "keypoints", "segment"])
def test_real_photographs(task: str) -> None:
    file = shared(f"data/coco50/{'person_keypoints' if task == 'keypoints' else 'instances'}.json")
    data = opened(file, task, max_pixels=10**8)
    assert len(data.training) + len(data.validation) == 50
    assert len(data.keypoint_names) == (17 if task == "keypoints" else 0)
    example = data.validation.example(0, 0)
    shapes = {name: tuple(value.shape) for name, value in example.target.items()}
    if task == "segment":
        assert (
            shapes == {"mask": tuple(example.image.shape[1:])}
            and len(example.target["mask"].unique()) > 1
        )
    else:
        n = shapes["labels"][0]
        more = {
            "instances": {"masks": (n, *example.image.shape[1:])},
            "keypoints": {"keypoints": (n, 17, 3)},
        }
        assert n > 0 and shapes == {"boxes": (n, 4), "labels": (n,)} | more.get(task, {})


def test_validation_by_another_part_of_coco(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    other = shared("data/coco50/instances.json")
    data = opened(
        shared("data/coco128/instances.json"),
        validation=str(other),
        classes=["person"],
        max_pixels=10**8,
    )
    assert (len(data.training), len(data.validation)) == (128, 50)
    assert data.categories == ("__background__", "person")
    assert sum(len(one.labels) for one in images(data.validation)) > 90
