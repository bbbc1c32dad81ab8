"""Label Studio's tasks.

Its library needs 37 others, so the tests do not use it. Brush masks are read back by the format's
published decoder, and one is compared with the bytes that the library writes.
"""

import json
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from defusedxml import ElementTree

from pipeline.ops.masks import encode_rle
from pipeline.outputs.brush_rle import encode_brush_rle
from pipeline.outputs.exporters import labelstudio
from tests.helpers.made_runs import Row, box, made_run
from tests.helpers.pictures import picture

Export = Callable[..., Path]


def read_tasks(folder: Path) -> list[dict]:
    return [
        task
        for file in sorted(folder.glob("tasks-*.json"))
        for task in json.loads(file.read_text())
    ]


def unpack(packed: list[int]) -> list[int]:
    """Decode as `decode` of thi.ng's rle-pack does."""
    bits, at = "".join(f"{byte:08b}" for byte in packed), 0

    def take(n: int) -> int:
        nonlocal at
        at += n
        return int(bits[at - n : at], 2)

    count, word = take(32), take(5) + 1
    sizes = [take(4) + 1 for _ in range(4)]
    values: list[int] = []
    while len(values) < count:
        repeated, length = take(1), take(sizes[take(2)]) + 1
        values += [take(word)] * length if repeated else [take(word) for _ in range(length)]
    assert at < len(bits) <= at + 8
    return values


def test_no_predictions_are_a_task_with_nothing_in_it(tmp_path: Path, export: Export) -> None:
    folder = export(
        made_run(tmp_path / "run", [Row("sub/a b.jpg")], input=Path("/data/photos")), "labelstudio"
    )
    assert read_tasks(folder) == [
        {
            "data": {
                "image": "/data/local-files/?d=photos/sub/a%20b.jpg",
                "key": "sub/a b.jpg",
                "image_id": 0,
            },
            "predictions": [{"model_version": "run", "result": []}],
        }
    ]


def test_a_box_in_percent(tmp_path: Path, export: Export) -> None:
    folder = export(
        made_run(tmp_path / "run", [Row("a.jpg", (480, 640), [box(1, 0.5, 64, 48, 320, 500)])]),
        "labelstudio",
    )
    (one,) = read_tasks(folder)[0]["predictions"][0]["result"]
    percent = {"x": 10, "y": 10, "width": 40, "height": 90, "rotation": 0}
    assert one.pop("value") == percent | {"rectanglelabels": ["dog"]}
    names = {"id": "box-0", "from_name": "boxes", "to_name": "image", "type": "rectanglelabels"}
    assert one == names | {
        "original_width": 640,
        "original_height": 480,
        "image_rotation": 0,
        "score": 0.5,
    }


def test_the_interface_has_what_the_tasks_name(tmp_path: Path, export: Export) -> None:
    point = {"x": 32.0, "y": 48.0, "visibility": 1.0, "score": 2.0}
    rows = [Row("a.jpg", (480, 640), [box(1, 0.5, 0, 0, 64, 48, keypoints=[point])])]
    folder = export(
        made_run(tmp_path / "run", rows, "keypoints", keypoint_names=("nose",)), "labelstudio"
    )
    view = ElementTree.parse(folder / "labeling_config.xml").getroot()
    controls = {
        one.attrib["name"]: [label.attrib["value"] for label in one]
        for one in view
        if "toName" in one.attrib
    }
    assert controls == {"boxes": ["dog", "cat", "stop sign"], "points": ["nose"]}
    first, second = read_tasks(folder)[0]["predictions"][0]["result"]
    assert second["parentID"] == first["id"] and second["from_name"] == "points"
    assert second["value"] == {"x": 5, "y": 10, "width": 0.5, "keypointlabels": ["nose"]}


def test_masks_come_back(tmp_path: Path, export: Export) -> None:
    mask = np.random.default_rng(0).random((20, 30)) > 0.5
    columns = {"mask_rle": encode_rle(mask), "mask_height": 20, "mask_width": 30}
    folder = export(
        made_run(
            tmp_path / "run",
            [Row("a.jpg", (20, 30), [box(1, 0.5, 0, 0, 30, 20, **columns)])],
            "instances",
        ),
        "labelstudio",
    )
    value = read_tasks(folder)[0]["predictions"][0]["result"][1]["value"]
    assert value["format"] == "rle" and value["brushlabels"] == ["dog"]
    pixels = np.array(unpack(value["rle"])).reshape(20, 30, 4)
    assert np.array_equal(pixels, np.repeat(mask[:, :, None] * 255, 4, axis=2))


@pytest.mark.parametrize(
    "length", [1, 2, 3, 4, 5, 64, 65, 16384, 16385, 40000]
)  # length of a run, in pixels of four values
def test_runs_of_any_length(length: int) -> None:
    mask = np.ones((1, length + 1), dtype=bool)
    mask[0, -1] = False
    assert unpack(encode_brush_rle(mask)) == [255] * (4 * length) + [0] * 4


def test_it_is_what_label_studios_library_makes() -> None:
    """The bytes are those of label-studio-sdk 2.1.2: converter.brush.mask2rle(mask * 255)."""
    mask = np.zeros((4, 6), dtype=bool)
    mask[1:3, 2:5] = True
    assert encode_brush_rle(mask) == [
        0,
        0,
        0,
        96,
        57,
        27,
        254,
        31,
        0,
        183,
        255,
        108,
        2,
        223,
        254,
        27,
        0,
        0,
    ]


def test_classes_of_an_image_are_the_best_choice(tmp_path: Path, export: Export) -> None:
    found = [{"class_id": 2, "score": 0.75, "rank": 1}, {"class_id": 1, "score": 0.25, "rank": 2}]
    folder = export(
        made_run(tmp_path / "run", [Row("a.jpg", found=found), Row("b.jpg")], "classify"),
        "labelstudio",
    )
    first, second = (task["predictions"][0]["result"] for task in read_tasks(folder))
    assert [one["value"] for one in first] == [{"choices": ["cat"]}] and second == []


def test_a_file_that_is_large_is_followed_by_another(
    tmp_path: Path, export: Export, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(labelstudio, "_MAX_FILE_BYTES", 300)
    rows = [Row(f"{i}.jpg", found=[box(1, 0.5, 0, 0, 9, 9)]) for i in range(5)]
    folder = export(made_run(tmp_path / "run", rows, shard_size=3), "labelstudio")
    assert len(list(folder.glob("tasks-*.json"))) > 2
    assert [task["data"]["image"].rpartition("/")[2] for task in read_tasks(folder)] == [
        f"{i}.jpg" for i in range(5)
    ]


def test_tasks_name_the_copies(tmp_path: Path, export: Export) -> None:
    (tmp_path / "in" / "sub").mkdir(parents=True)
    picture(4, 4).save(tmp_path / "in" / "sub" / "a b.jpg")
    run = made_run(tmp_path / "run", [Row("sub/a b.jpg", (4, 4))], input=tmp_path / "in")
    folder = export(run, "labelstudio", "images=copy", f"output={tmp_path / 'to label'}")
    (task,) = read_tasks(folder)
    path = unquote(task["data"]["image"]).removeprefix("/data/local-files/?d=")
    assert path == "to label/images/sub/a b.jpg" and (tmp_path / path).is_file()


def test_points_have_an_order(tmp_path: Path, export: Export) -> None:
    names = ("nose", "left_eye")
    run = made_run(tmp_path / "run", [Row("a.jpg")], "keypoints", keypoint_names=names)
    view = ElementTree.parse(export(run, "labelstudio") / "labeling_config.xml").getroot()
    labels = [label.attrib for label in view.find("KeyPointLabels")]
    assert labels == [
        {"value": "nose", "model_index": "0"},
        {"value": "left_eye", "model_index": "1"},
    ]
