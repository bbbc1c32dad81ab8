"""Folders in FiftyOne's documented format. FiftyOne needs a database, so it is not used."""

import json
from collections.abc import Callable
from pathlib import Path

from tests.helpers.made_runs import Row, box, made_run
from tests.helpers.pictures import picture

Export = Callable[..., Path]


def load(folder: Path) -> tuple[dict, dict]:
    labels, data = (
        json.loads((folder / f"{name}.json").read_text()) for name in ("labels", "data")
    )
    return labels, data


def test_no_predictions_are_an_empty_list(tmp_path: Path, export: Export) -> None:
    labels, data = load(
        export(made_run(tmp_path / "run", [Row("a.jpg")], input=Path("/data/photos")), "fiftyone")
    )
    assert labels == {"classes": ["dog", "cat", "stop sign"], "labels": {"a": []}}
    assert data == {"a.jpg": "/data/photos/a.jpg"}


def test_boxes_are_fractions(tmp_path: Path, export: Export) -> None:
    rows = [Row("a.jpg", (480, 640), [box(1, 0.5, 64, 48, 320, 240)])]
    labels, _ = load(export(made_run(tmp_path / "run", rows), "fiftyone"))
    assert labels["labels"]["a"] == [
        {"label": "dog", "confidence": 0.5, "bounding_box": [0.1, 0.1, 0.4, 0.4]}
    ]


def test_images_that_go_along_are_named_below_the_export(tmp_path: Path, export: Export) -> None:
    (tmp_path / "in" / "sub").mkdir(parents=True)
    picture(4, 4).save(tmp_path / "in" / "sub" / "a.jpg")
    run = made_run(tmp_path / "run", [Row("sub/a.jpg", (4, 4))], input=tmp_path / "in")
    folder = export(run, "fiftyone", "images=copy")
    assert (
        load(folder)[1] == {"sub/a.jpg": "data/sub/a.jpg"} and (folder / "data/sub/a.jpg").is_file()
    )


def test_the_best_class_of_an_image(tmp_path: Path, export: Export) -> None:
    found = [{"class_id": 2, "score": 0.75, "rank": 1}, {"class_id": 1, "score": 0.25, "rank": 2}]
    labels, _ = load(
        export(
            made_run(tmp_path / "run", [Row("a.jpg", found=found), Row("b.jpg")], "classify"),
            "fiftyone",
        )
    )
    assert labels["labels"] == {"a": {"label": "cat", "confidence": 0.75}, "b": None}


def test_originals_are_linked_because_fiftyone_needs_the_folder(
    tmp_path: Path, export: Export
) -> None:
    (tmp_path / "in" / "sub").mkdir(parents=True)
    picture(4, 4).save(tmp_path / "in" / "sub" / "a.jpg")
    run = made_run(tmp_path / "run", [Row("sub/a.jpg", (4, 4))], input=tmp_path / "in")
    link = export(run, "fiftyone") / "data" / "sub" / "a.jpg"
    assert link.is_symlink() and link.resolve() == tmp_path / "in" / "sub" / "a.jpg"
