"""MegaDetector's batch results, as their format is documented."""

import json
from collections.abc import Callable
from pathlib import Path

from tests.helpers.made_runs import Row, box, made_run

Export = Callable[..., Path]


def load(folder: Path) -> dict:
    return json.loads((folder / "detections.json").read_text())


def test_no_predictions_are_an_empty_list(tmp_path: Path, export: Export) -> None:
    assert load(export(made_run(tmp_path / "run", [Row("a.jpg")]), "megadetector")) == {
        "info": {"format_version": "1.5", "detector": "run"},
        "detection_categories": {"1": "dog", "2": "cat", "3": "stop sign"},
        "images": [{"file": "a.jpg", "detections": []}],
    }


def test_boxes_are_fractions_within_the_image(tmp_path: Path, export: Export) -> None:
    rows = [Row("a.jpg", (480, 640), [box(3, 0.5, 64, -48, 320, 240)])]
    (image,) = load(export(made_run(tmp_path / "run", rows), "megadetector"))["images"]
    assert image["detections"] == [{"category": "3", "conf": 0.5, "bbox": [0.1, 0, 0.4, 0.5]}]


def test_a_failed_image_says_why(tmp_path: Path, export: Export) -> None:
    rows = [Row("a.jpg", None, status="empty", error="zero bytes")]
    (image,) = load(export(made_run(tmp_path / "run", rows), "megadetector"))["images"]
    assert image == {"file": "a.jpg", "detections": None, "failure": "zero bytes"}
