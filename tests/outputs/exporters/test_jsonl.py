"""JSON Lines: one line for each image, with all that the run found."""

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa

from tests.helpers.made_runs import Row, box, made_run
from tests.helpers.runs import read

Export = Callable[..., Path]


def read_lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "images.jsonl").read_text().splitlines()]


def test_nothing_found_and_not_looked_at_differ(tmp_path: Path, export: Export) -> None:
    rows = [Row("a.jpg", (3, 4)), Row("b.jpg", None, status="empty", error="zero bytes")]
    first, second = read_lines(export(made_run(tmp_path / "run", rows), "jsonl"))
    size = {"width": 4, "height": 3, "status": "ok", "error": None}
    assert first == {"image_id": 0, "key": "a.jpg", **size, "n_predictions": 0, "predictions": []}
    assert (second["status"], second["error"], second["predictions"]) == (
        "empty",
        "zero bytes",
        None,
    )


def test_a_row_is_as_in_the_table_with_short_numbers(tmp_path: Path, export: Export) -> None:
    folder = export(
        made_run(tmp_path / "run", [Row("a.jpg", found=[box(1, 0.9, 0.1, 0, 9, 9)])]), "jsonl"
    )
    assert read_lines(folder)[0]["predictions"] == [
        {
            "class_id": 1,
            "class_name": "dog",
            "score": 0.9,
            "x_min": 0.1,
            "y_min": 0.0,
            "x_max": 9.0,
            "y_max": 9.0,
        }
    ]


def test_points_have_their_names(tmp_path: Path, export: Export) -> None:
    point = {"x": 3.1, "y": 4.5, "visibility": 1.0, "score": 2.0}
    rows = [Row("a.jpg", found=[box(1, 0.5, 0, 0, 9, 9, keypoints=[point])])]
    folder = export(
        made_run(tmp_path / "run", rows, "keypoints", keypoint_names=("nose",)), "jsonl"
    )
    assert read_lines(folder)[0]["predictions"][0]["keypoints"] == [{"name": "nose", **point}]


def test_embeddings_come_back_to_the_last_bit(tmp_path: Path, export: Export) -> None:
    vectors = [[0.1, -0.2, 1e-9, 0.7], [1 / 3, 0.0, 5.0, -1.0]]
    rows = [
        Row(f"{i}.jpg", found=[{"class_id": 1, "score": 0.5, "embedding": one}])
        for i, one in enumerate(vectors)
    ]
    run = made_run(tmp_path / "run", rows, "embed", shard_size=1)
    found = [
        pa.array(line["predictions"][0]["embedding"], pa.float32())
        for line in read_lines(export(run, "jsonl"))
    ]
    assert [one.to_pylist() for one in found] == read(run, "predictions")["embedding"].to_pylist()
