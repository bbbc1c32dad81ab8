"""Boxes, masks and keypoints: the figures are those of pycocotools, and what met what is said."""

import contextlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pycocotools.coco import COCO

from pipeline.config.command_options import read_options
from pipeline.core.errors import ConfigError
from pipeline.core.keys import listed_paths_to_keys
from pipeline.ops.masks import encode_rle
from pipeline.results.commands import refilter
from pipeline.results.evaluation.evaluate import evaluate
from pipeline.results.evaluation.result import Evaluation
from pipeline.runs.finished_run import FinishedRun
from tests.helpers.made_runs import CATEGORIES, Row, box, made_run
from tests.helpers.paths import shared
from tests.results.evaluation.coco_truth import by_pycocotools, write_truth

NAMES = {i: name for i, name in enumerate(CATEGORIES) if i}
BODY = np.random.default_rng(0).random((17, 2))  # where points are within their box
BOXES = (
    "ap",
    "ap50",
    "ap75",
    "ap_small",
    "ap_medium",
    "ap_large",
    "ar_max1",
    "ar_max10",
    "ar_max100",
)
BOXES += ("ar_small", "ar_medium", "ar_large")
POINTS = (
    "ap",
    "ap50",
    "ap75",
    "ap_medium",
    "ap_large",
    "ar",
    "ar50",
    "ar75",
    "ar_medium",
    "ar_large",
)


def evaluated(run: Path, truth: Path, **more: Any) -> Evaluation:
    return evaluate(FinishedRun.open(run), truth, **more)


def assert_equal_to_pycocotools(
    run: Path, truth: Path, found: Evaluation, kind: str, iou_type: str
) -> None:
    """Every figure of the summary, and every class's AP; -1 is pycocotools' "not defined"."""
    theirs = by_pycocotools(run, truth, iou_type)
    names = POINTS if kind == "keypoints" else BOXES
    assert set(found.figures[kind]) == set(names)
    ours = [
        -1 if found.figures[kind][name] is None else found.figures[kind][name] for name in names
    ]
    assert ours == pytest.approx(theirs.stats.tolist(), abs=1e-9)
    at = {class_id: k for k, class_id in enumerate(theirs.params.catIds)}
    for row in (row for row in found.classes if row["kind"] == kind):
        precision = theirs.eval["precision"][:, :, at[row["class_id"]], 0, -1]
        for name, values in (("ap", precision), ("ap50", precision[0]), ("ap75", precision[5])):
            assert (-1 if row[name] is None else row[name]) == pytest.approx(
                values.mean(), abs=1e-9
            ), (row["class"], name)


def scene(
    rng: np.random.Generator, kind: str, n_images: int
) -> tuple[list[Row], list[dict[str, Any]]]:
    """Make objects of all sizes in 300x400 images, some of them crowds, and detections.

    Detections are near the objects and elsewhere. Scores have two digits, so that many are equal.
    """
    rows, annotations = [], []
    for number in range(n_images):
        name, found = f"{number:03d}.jpg", []
        for _ in range(rng.integers(0, 6)):
            x, y = rng.uniform(0, 250, 2)
            size = rng.uniform(4, 140, 2)
            class_id = 1 if kind == "keypoints" else int(rng.integers(1, 4))
            crowd = int(rng.random() < 0.15)
            annotations.append(
                {"image_id": name, "category_id": class_id, "iscrowd": crowd}
                | _truth(kind, rng, x, y, *size)
            )
            for _ in range(rng.integers(0, 3)):
                moved = np.r_[x, y, x + size[0], y + size[1]] + rng.normal(0, 5, 4)
                wrong = rng.random() < 0.2 and kind != "keypoints"
                found.append(
                    _found(kind, int(rng.integers(1, 4)) if wrong else class_id, rng, moved)
                )
        stray = np.r_[rng.uniform(0, 200, 2), rng.uniform(210, 290, 2)]
        found.append(_found(kind, 1, rng, stray))
        rows.append(Row(name, (300, 400), sorted(found, key=lambda one: -one["score"])))
    return rows, annotations


def _mask(x_min: float, y_min: float, x_max: float, y_max: float) -> np.ndarray:
    rows, columns = np.mgrid[:300, :400]
    return (
        (columns >= x_min)
        & (columns < max(x_max, x_min + 1))
        & (rows >= y_min)
        & (rows < max(y_max, y_min + 1))
    )


def _truth(
    kind: str, rng: np.random.Generator, x: float, y: float, w: float, h: float
) -> dict[str, Any]:
    one: dict[str, Any] = {"bbox": [x, y, w, h]}
    if kind == "instances":
        one["segmentation"] = [[x, y, x + w, y, x + w, y + h, x, y + h]]
    if kind == "keypoints":
        points = [(x + w * a, y + h * b, int(rng.integers(0, 3))) for a, b in BODY]
        one |= {
            "keypoints": [value for point in points for value in point],
            "num_keypoints": sum(v > 0 for *_, v in points),
        }
    return one


def _found(kind: str, class_id: int, rng: np.random.Generator, xyxy: np.ndarray) -> dict[str, Any]:
    corners = [
        float(value)
        for value in np.r_[np.minimum(xyxy[:2], xyxy[2:]), np.maximum(xyxy[:2], xyxy[2:])].round(2)
    ]
    more: dict[str, Any] = {}
    if kind == "instances":
        more = {"mask_rle": encode_rle(_mask(*corners)), "mask_height": 300, "mask_width": 400}
    if kind == "keypoints":
        x, y, x_max, y_max = corners
        spread = [
            (x + (x_max - x) * a, y + (y_max - y) * b)
            for a, b in BODY + rng.normal(0, 0.02, BODY.shape)
        ]
        more = {"keypoints": [{"x": a, "y": b, "visibility": 1.0, "score": 1.0} for a, b in spread]}
    return box(class_id, round(float(rng.random()), 2), *corners, **more)


POINT_NAMES = tuple(f"point {i}" for i in range(17))


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("kind", ["detect", "instances", "keypoints"])
def test_the_figures_are_those_of_pycocotools(kind: str, seed: int, tmp_path: Path) -> None:
    rows, annotations = scene(np.random.default_rng(seed), kind, 40)
    points = POINT_NAMES if kind == "keypoints" else ()
    named = {"keypoints": points} if points else {}
    truth = write_truth(
        tmp_path / "t.json", {row.key: (300, 400) for row in rows}, annotations, NAMES, **named
    )
    run = made_run(tmp_path / "run", rows, kind, keypoint_names=points, shard_size=7)
    found = evaluated(run, truth)
    own = {"detect": "boxes", "instances": "masks", "keypoints": "keypoints"}[kind]
    assert (
        found.kind == own
        and set(found.figures) == {own, "boxes"}
        and 0.05 < found.figures[own]["ap50"] < 0.99
    )
    for one, iou_type in {own: {"masks": "segm"}.get(own, own), "boxes": "bbox"}.items():
        assert_equal_to_pycocotools(run, truth, found, one, "bbox" if one == "boxes" else iou_type)


def test_more_than_a_hundred_of_an_image_are_cut_as_coco_does(tmp_path: Path) -> None:
    rows = [
        Row("a.jpg", (300, 400), [box(1, 0.9 - i / 1000, i, 0, i + 40, 50) for i in range(150)])
    ]
    objects = [
        {"image_id": "a.jpg", "category_id": 1, "bbox": [i, 0, 40, 50]} for i in range(0, 150, 10)
    ]
    truth = write_truth(tmp_path / "t.json", {"a.jpg": (300, 400)}, objects, NAMES)
    run = made_run(tmp_path / "run", rows)
    assert_equal_to_pycocotools(run, truth, evaluated(run, truth), "boxes", "bbox")


def test_the_best_threshold_is_what_a_filter_takes(tmp_path: Path) -> None:
    """A run filtered by it has the precision and the recall that were told."""
    rows, annotations = scene(np.random.default_rng(5), "detect", 40)
    annotations = [one | {"iscrowd": 0} for one in annotations]
    truth = write_truth(
        tmp_path / "t.json", {row.key: (300, 400) for row in rows}, annotations, NAMES
    )
    run = made_run(tmp_path / "out" / "run", rows, min_score=0.0)
    left = []
    for row in evaluated(run, truth).rows():
        words = [f"run={run}", f"min_score={row['threshold']}", f"classes=[{row['class']}]"]
        strict = Path(
            refilter.run_command(read_options("refilter", words, refilter.Options)).partition(": ")[
                0
            ]
        )
        (kept,) = evaluated(strict, truth).rows()
        right = row["recall"] * row["truth"]
        assert (
            kept["predictions"] == pytest.approx(right / row["precision"])
            and kept["recall"] == row["recall"]
        )
        left.append(kept["predictions"] / row["predictions"])
    assert 0 < min(left) < 1


@pytest.mark.parametrize(
    ("found", "objects"),
    [([], 0), ([], 1), ([box(1, 0.5, 0, 0, 9, 9)], 0)],
    ids=["nothing", "missed", "made up"],
)
def test_empty_sides(found: list, objects: int, tmp_path: Path) -> None:
    annotations = [{"image_id": "a.jpg", "category_id": 1, "bbox": [0, 0, 9, 9]}] * objects
    other = [{"image_id": "b.jpg", "category_id": 2, "bbox": [0, 0, 9, 9]}]
    truth = write_truth(
        tmp_path / "t.json",
        {"a.jpg": (480, 640), "b.jpg": (480, 640)},
        [*annotations, *other],
        NAMES,
    )
    result = evaluated(made_run(tmp_path / "run", [Row("a.jpg", found=found), Row("b.jpg")]), truth)
    dog, cat, sign = result.rows()
    assert (dog["ap"], cat["ap"], sign["ap"]) == (0.0 if objects else None, 0.0, None)
    assert (dog["truth"], dog["predictions"], dog["f1"]) == (objects, len(found), None)
    assert result.figures["boxes"]["ap"] == 0.0 and result.figures["boxes"]["ap_large"] is None


def test_a_file_without_annotations_is_refused(tmp_path: Path) -> None:
    truth = write_truth(tmp_path / "t.json", {"a.jpg": (480, 640)}, [], NAMES)
    with pytest.raises(ConfigError, match="no annotations with boxes"):
        evaluated(made_run(tmp_path / "run", [Row("a.jpg")]), truth)


# --- who is who


def one_dog(image: str) -> dict[str, Any]:
    return {"image_id": image, "category_id": 1, "bbox": [0, 0, 10, 10]}


DOG = box(1, 0.9, 0, 0, 10, 10)


def test_images_meet_by_key_then_by_last_name(tmp_path: Path) -> None:
    names = ["a/x.jpg", "old/y.jpg", "z.jpg", "absent.jpg", "broken.jpg", "old/x.jpg"]
    truth = write_truth(
        tmp_path / "t.json",
        dict.fromkeys(names, (480, 640)),
        [one_dog(name) for name in names],
        NAMES,
    )
    rows = [
        Row("a/x.jpg", found=[DOG]),
        Row("b/x.jpg", found=[DOG]),
        Row("broken.jpg", None, status="empty", error="0 bytes"),
    ]
    rows += [
        Row("new/y.jpg", found=[DOG]),
        Row("p/z.jpg", found=[DOG]),
        Row("q/z.jpg", found=[DOG]),
    ]
    result = evaluated(made_run(tmp_path / "run", rows), truth)
    counted = result.images
    assert (counted.truth, counted.failed, counted.not_in_run, counted.not_in_truth) == (6, 1, 3, 3)
    assert result.rows()[0]["recall"] == pytest.approx(2 / 6)  # x and y; z could be either
    said = "\n".join(result.notes)
    assert (
        "1 of truth's images failed in the run; they count as images without predictions: "
        "broken.jpg" in said
    )
    assert "3 of truth's images are not in the run" in said and "z.jpg, absent.jpg" in said
    assert "3 images of the run are not in truth and left out: b/x.jpg, p/z.jpg, q/z.jpg" in said
    assert "2 of truth's images could be any of several of one file name: z.jpg, old/x.jpg" in said


def test_shards_to_come_are_images_that_the_run_does_not_have(tmp_path: Path) -> None:
    names = [f"{i}.jpg" for i in range(6)]
    run = made_run(tmp_path / "run", [Row(name, found=[DOG]) for name in names], shard_size=2)
    (run / "_committed" / "00000001.json").unlink()
    truth = write_truth(
        tmp_path / "t.json",
        dict.fromkeys(names, (480, 640)),
        [one_dog(name) for name in names],
        NAMES,
    )
    result = evaluated(run, truth)
    assert result.images.not_in_run == 2 and result.rows()[0]["recall"] == pytest.approx(4 / 6)


def test_classes_meet_by_name_whatever_their_ids(tmp_path: Path) -> None:
    """Truth's own numbering, another case, one class each that the other side lacks."""
    truth = write_truth(
        tmp_path / "t.json", {"a.jpg": (480, 640)}, [one_dog("a.jpg")], {1: "Dog", 7: "zebra"}
    )
    result = evaluated(
        made_run(tmp_path / "run", [Row("a.jpg", found=[DOG, box(2, 0.95, 0, 0, 10, 10)])]), truth
    )
    assert [(row["class_id"], row["class"], row["f1"]) for row in result.rows()] == [
        (1, "Dog", 1.0),
        (7, "zebra", None),
    ]
    said = "\n".join(result.notes)
    assert "1 classes of truth are unknown to the model, so never found: zebra." in said
    assert "2 classes of the model are not in truth and left out: cat, stop sign." in said


def test_classes_that_differ_only_by_case_are_two(tmp_path: Path) -> None:
    names = {1: "helmet", 2: "Helmet", 3: "HELMET"}
    truth = write_truth(
        tmp_path / "t.json",
        {"a.jpg": (480, 640)},
        [one_dog("a.jpg") | {"category_id": i} for i in (1, 2)],
        names,
    )
    found = [box(1, 0.9, 0, 0, 10, 10), box(2, 0.8, 0, 0, 10, 10)]
    run = made_run(
        tmp_path / "run",
        [Row("a.jpg", found=found)],
        categories=("__background__", "Helmet", "helmet"),
    )
    result = evaluated(run, truth)
    assert [(row["class"], row["f1"]) for row in result.rows()] == [
        ("helmet", 1.0),
        ("Helmet", 1.0),
        ("HELMET", None),
    ]
    assert "unknown to the model, so never found: HELMET." in "\n".join(result.notes)


@pytest.mark.parametrize(
    "name",
    [
        "./in//a b.jpg",
        "in\\a b.jpg",
        "C:\\set\\in\\a b.jpg",
        "/home/me/in/a b.jpg",
        "../in/a b.jpg",
        "file:///home/me/in/a%20b.jpg",
        "in/A B.JPG",
    ],
)
def test_images_meet_however_their_names_are_spelled(name: str, tmp_path: Path) -> None:
    rows = [Row("in/a b.jpg", found=[DOG]), Row("out/a b.jpg")]
    names = [name, name.replace("in", "out")]
    truth = write_truth(
        tmp_path / "t.json", dict.fromkeys(names, (480, 640)), [one_dog(name)], NAMES
    )
    result = evaluated(made_run(tmp_path / "run", rows), truth)
    assert result.images.not_in_run == 0
    assert result.figures["boxes"]["ap50"] == pytest.approx(1.0)


def test_images_of_a_manifest_meet_by_the_paths_that_it_lists(tmp_path: Path) -> None:
    paths = ["/data/a.jpg", "../a.jpg", "https://host/a.jpg"]
    keys = listed_paths_to_keys(pa.array(paths)).to_pylist()
    run = made_run(tmp_path / "run", [Row(key, found=[DOG]) for key in sorted(keys)])
    truth = write_truth(
        tmp_path / "t.json", dict.fromkeys(paths, (480, 640)), [one_dog(paths[0])], NAMES
    )
    assert evaluated(run, truth).images.not_in_run == 0


def test_names_that_could_be_any_of_several_are_said(tmp_path: Path) -> None:
    run = made_run(tmp_path / "run", [Row("p/z.jpg", found=[DOG]), Row("q/z.jpg", found=[DOG])])
    truth = write_truth(tmp_path / "t.json", {"z.jpg": (480, 640)}, [one_dog("z.jpg")], NAMES)
    with pytest.raises(
        ConfigError, match=r"z\.jpg could be p/z\.jpg, q/z\.jpg; give truth's names"
    ):
        evaluated(run, truth)


def test_classes_that_the_run_left_out_are_not_evaluated(tmp_path: Path) -> None:
    cat = {"image_id": "a.jpg", "category_id": 2, "bbox": [0, 0, 10, 10]}
    truth = write_truth(tmp_path / "t.json", {"a.jpg": (480, 640)}, [one_dog("a.jpg"), cat], NAMES)
    result = evaluated(
        made_run(tmp_path / "run", [Row("a.jpg", found=[DOG])], classes=["dog"], min_score=0.5),
        truth,
    )
    assert [row["class"] for row in result.rows()] == ["dog"] and result.figures["boxes"][
        "ap50"
    ] == pytest.approx(1.0)
    said = "\n".join(result.notes)
    assert (
        "told to leave out classes" in said
        and "filtered by min_score=0.5; the figures are of what that left" in said
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda t: t["images"][0].update(width=480, height=640),
            "a.jpg: 480x640 pixels in truth, 640x480 in the run",
        ),
        (
            lambda t: t["images"][0].update(file_name="b.jpg"),
            r"None of truth's 1 images is in the run. Truth: b.jpg. .*a.jpg",
        ),
        (
            lambda t: t["categories"].__setitem__(slice(None), [{"id": 1, "name": "cow"}]),
            "None of truth's classes",
        ),
        (
            lambda t: t["categories"].append({"id": 9, "name": "dog"}),
            "two categories have one name",
        ),
        (
            lambda t: t["categories"].__setitem__(
                slice(None), [{"id": 1, "name": "DOG"}, {"id": 9, "name": "Dog"}]
            ),
            "truth's 'DOG' and 'Dog' and the run's 'dog' differ only in spelling",
        ),
        (lambda t: t["annotations"][0].update(category_id=50), "category_id 50 is none"),
        (lambda t: t["annotations"][0].update(image_id=50), "expected COCO's format"),
        (lambda t: t["annotations"][0].update(bbox=[1, 2, 3]), "annotation 1: expected bbox="),
        (lambda t: t["images"].append(t["images"][0]), "two images have one id"),
        (lambda t: t.pop("categories"), "expected COCO's format"),
    ],
)
def test_truth_that_cannot_be_meant_is_refused(change: Callable, said: str, tmp_path: Path) -> None:
    path = write_truth(tmp_path / "t.json", {"a.jpg": (480, 640)}, [one_dog("a.jpg")], NAMES)
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(ConfigError, match=said):
        evaluated(made_run(tmp_path / "run", [Row("a.jpg", found=[DOG])]), path)


BROKEN = [
    ("instances", {"segmentation": [[1, 2]]}, "annotation 7: a polygon of its segmentation has"),
    (
        "instances",
        {"segmentation": {"size": [3, 3], "counts": [9]}},
        "annotation 7 has a mask of another size",
    ),
    (
        "instances",
        {"segmentation": {"size": [480, 640], "counts": [9]}},
        "annotation 7: the counts of its mask make no mask",
    ),
    ("keypoints", {"keypoints": [1, 2, 2]}, "annotation 7: it has 3 keypoint values"),
]


@pytest.mark.parametrize(("task", "change", "said"), BROKEN)
def test_a_broken_shape_matters_only_to_a_task_that_needs_it(
    task: str, change: dict[str, Any], said: str, tmp_path: Path
) -> None:
    names = {"keypoints": POINT_NAMES} if task == "keypoints" else {}
    dog = one_dog("a.jpg") | {"id": 7} | change
    path = write_truth(tmp_path / "t.json", {"a.jpg": (480, 640)}, [dog], NAMES, **names)
    boxes = evaluated(made_run(tmp_path / "boxes", [Row("a.jpg", found=[DOG])]), path)
    assert boxes.figures["boxes"]["ap"] == pytest.approx(1.0)
    with pytest.raises(ConfigError, match=said):
        evaluated(
            made_run(tmp_path / "run", [Row("a.jpg")], task, keypoint_names=POINT_NAMES), path
        )


def test_what_a_file_leaves_out_is_found(tmp_path: Path) -> None:
    """No area, no iscrowd, no size: as some tools export."""
    path = write_truth(tmp_path / "t.json", {"a.jpg": (480, 640)}, [one_dog("a.jpg")], NAMES)
    content = json.loads(path.read_text())
    content["images"] = [{"id": 0, "file_name": "a.jpg"}]
    content["annotations"] = [{"image_id": 0, "category_id": 1, "bbox": [0, 0, 10, 10]}]
    path.write_text(json.dumps(content))
    result = evaluated(made_run(tmp_path / "run", [Row("a.jpg", found=[DOG])]), path)
    assert result.figures["boxes"]["ap"] == pytest.approx(1.0) and result.figures["boxes"][
        "ap_small"
    ] == pytest.approx(1.0)


def test_masks_that_truth_lacks_are_said(tmp_path: Path) -> None:
    rows, annotations = scene(np.random.default_rng(3), "instances", 5)
    del annotations[0]["segmentation"]
    truth = write_truth(
        tmp_path / "t.json", {row.key: (300, 400) for row in rows}, annotations, NAMES
    )
    result = evaluated(made_run(tmp_path / "run", rows, "instances"), truth)
    assert result.kind == "boxes" and "Masks are not evaluated" in "\n".join(result.notes)


def test_points_of_another_body_are_refused(tmp_path: Path) -> None:
    rows, annotations = scene(np.random.default_rng(3), "keypoints", 5)
    others = {"keypoints": [*POINT_NAMES[1:], POINT_NAMES[0]]}
    truth = write_truth(
        tmp_path / "t.json", {row.key: (300, 400) for row in rows}, annotations, NAMES, **others
    )
    with pytest.raises(ConfigError, match=r"truth's are point 1, point 2.*in COCO's order"):
        evaluated(made_run(tmp_path / "run", rows, "keypoints", keypoint_names=POINT_NAMES), truth)


# --- real ones

D2GO = (
    "model=torchscript",
    "categories=coco",
    "channels=bgr",
    "trust_code=true",
    "min_score=0",
    "overlays=false",
)


def test_a_real_detector_on_real_photographs(annotate: Callable[..., Path]) -> None:
    folder = shared("data/coco50")
    run = annotate(
        "task=detect", f"weights={shared('weights/d2go_coco.pt')}", f"input={folder}", *D2GO
    )
    found = evaluated(run, folder / "instances.json")
    assert found.figures["boxes"]["ap"] == pytest.approx(0.1664, abs=1e-4)
    assert found.figures["boxes"]["ap50"] == pytest.approx(0.2919, abs=1e-4)
    assert_equal_to_pycocotools(run, folder / "instances.json", found, "boxes", "bbox")


@pytest.mark.long
@pytest.mark.parametrize(
    ("task", "file"), [("instances", "instances.json"), ("keypoints", "person_keypoints.json")]
)
def test_real_annotations(task: str, file: str, tmp_path: Path) -> None:
    """The file has polygons, crowds and points that are not labelled.

    Predictions are made from them, slightly moved, and every fourth is missing.
    """
    truth = shared(f"data/coco50/{file}")
    with contextlib.redirect_stdout(io.StringIO()):
        objects = COCO(str(truth))
    rng, rows = np.random.default_rng(0), []
    names = ["__background__"] + ["N/A"] * max(objects.cats)
    for category in objects.cats.values():
        names[category["id"]] = category["name"]
    for image in sorted(objects.imgs.values(), key=lambda image: image["file_name"]):
        own = [one for one in objects.imgToAnns[image["id"]] if one["id"] % 4]
        found = [_aside(objects, one, rng, task) for one in own]
        size_hw = (image["height"], image["width"])
        rows.append(Row(image["file_name"], size_hw, sorted(found, key=lambda one: -one["score"])))
    points = tuple(objects.dataset["categories"][0].get("keypoints", ()))
    run = made_run(tmp_path / "run", rows, task, names, keypoint_names=points, shard_size=16)
    result = evaluated(run, truth)
    kind, iou_type = {"instances": ("masks", "segm"), "keypoints": ("keypoints", "keypoints")}[task]
    assert 0.2 < result.figures[kind]["ap50"] < 0.9
    assert_equal_to_pycocotools(run, truth, result, kind, iou_type)
    assert_equal_to_pycocotools(run, truth, result, "boxes", "bbox")


def _aside(
    objects: COCO, one: dict[str, Any], rng: np.random.Generator, task: str
) -> dict[str, Any]:
    x, y, width, height = one["bbox"]
    dx, dy = (float(rng.normal(0, 0.05 * side)) for side in (width, height))
    corners = (x + dx, y + dy, x + dx + width, y + dy + height)
    more: dict[str, Any] = {}
    if task == "instances":
        mask = np.roll(objects.annToMask(one).astype(bool), (round(dy), round(dx)), axis=(0, 1))
        more = {
            "mask_rle": encode_rle(mask),
            "mask_height": mask.shape[0],
            "mask_width": mask.shape[1],
        }
    if task == "keypoints":
        xyv = np.reshape(one["keypoints"], (-1, 3)) + np.array([dx, dy, 0])
        more = {
            "keypoints": [
                {"x": a, "y": b, "visibility": 1.0, "score": 1.0} for a, b, _ in xyv.tolist()
            ]
        }
    return box(one["category_id"], round(float(rng.random()), 2), *corners, **more)


def test_duplicates_are_not_evaluated(tmp_path: Path) -> None:
    """Of pictures that are there twice the figures are those of a run that looked at both."""
    found = [box(1, 0.9, 0, 0, 50, 50), box(2, 0.8, 0, 0, 50, 50), box(1, 0.7, 200, 200, 240, 260)]
    twins = [
        Row(f"b{i}.jpg", None, status="duplicate", error="the same bytes as a.jpg")
        for i in range(2)
    ]
    names = {"a0.jpg": (480, 640), "a1.jpg": (480, 640)} | {twin.key: (480, 640) for twin in twins}
    boxes = [(1, [0, 0, 50, 50]), (1, [200, 200, 40, 50]), (2, [300, 300, 20, 20])]
    truth = write_truth(
        tmp_path / "t.json",
        names,
        [{"image_id": name, "category_id": k, "bbox": xywh} for name in names for k, xywh in boxes],
        NAMES,
    )
    looked_at = [Row(f"a{i}.jpg", found=found) for i in range(2)]
    plain = evaluated(
        made_run(tmp_path / "plain", [*looked_at, *(Row(twin.key, found=found) for twin in twins)]),
        truth,
    )
    skipping = evaluated(made_run(tmp_path / "skipping", [*looked_at, *twins], shard_size=3), truth)
    assert (
        skipping.figures["boxes"] == pytest.approx(plain.figures["boxes"])
        and 0 < plain.figures["boxes"]["ap"] < 1
    )
    assert (skipping.images.truth, skipping.images.duplicates, skipping.images.failed) == (4, 2, 0)
    assert (
        "2 images of truth are duplicates that were not looked at; they are not evaluated: "
        "b0.jpg, b1.jpg" in skipping.notes
    )


def test_truth_of_duplicates_alone_is_refused(tmp_path: Path) -> None:
    run = made_run(
        tmp_path / "run", [Row("a.jpg"), Row("b.jpg", None, status="duplicate", error="x")]
    )
    boxes = [{"image_id": "b.jpg", "category_id": 1, "bbox": [0, 0, 9, 9]}]
    with pytest.raises(ConfigError, match="All of truth's images are duplicates"):
        evaluated(run, write_truth(tmp_path / "t.json", {"b.jpg": (480, 640)}, boxes, NAMES))
