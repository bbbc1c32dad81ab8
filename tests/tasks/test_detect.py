"""Boxes as rows."""

import pyarrow as pa
import torch

from pipeline.core.types import Item
from pipeline.tasks.detect import Detect
from tests.helpers.pictures import spec_of

SPEC = spec_of("__background__", "dog", "cat")


def outputs(*scores: float) -> dict[str, torch.Tensor]:
    n = len(scores)
    boxes = torch.arange(4 * n, dtype=torch.float32).reshape(n, 4)
    return {
        "boxes": boxes,
        "labels": torch.tensor([1, 2, 1, 2][:n], dtype=torch.int64),
        "scores": torch.tensor(scores),
    }


def test_no_detections_are_an_empty_table_of_the_schema() -> None:
    task = Detect(SPEC)
    rows = task.make_rows([outputs(), outputs()], [Item(0, "a"), Item(1, "b")])
    assert rows.num_rows == 0
    assert rows.schema.equals(task.schema, check_metadata=True)


def test_rows_come_in_input_order_best_score_first() -> None:
    rows = Detect(SPEC).make_rows(
        [outputs(0.2, 0.9), outputs(), outputs(0.5)], [Item(7, "a"), Item(8, "b"), Item(9, "c")]
    )
    assert rows.select(["image_id", "key", "class_id", "class_name"]).to_pylist() == [
        {"image_id": 7, "key": "a", "class_id": 2, "class_name": "cat"},
        {"image_id": 7, "key": "a", "class_id": 1, "class_name": "dog"},
        {"image_id": 9, "key": "c", "class_id": 1, "class_name": "dog"},
    ]
    assert rows["score"].to_pylist() == [
        pa.scalar(s, pa.float32()).as_py() for s in (0.9, 0.2, 0.5)
    ]
    assert [rows[c][0].as_py() for c in ("x_min", "y_min", "x_max", "y_max")] == [
        4.0,
        5.0,
        6.0,
        7.0,
    ]


def test_drawing_nothing_gives_the_same_picture_and_drawing_a_box_does_not() -> None:
    task = Detect(SPEC)
    image = torch.full((3, 300, 400), 90, dtype=torch.uint8)
    none, one = (
        task.make_rows([outputs()], [Item(0, "a")]),
        task.make_rows([outputs(0.5)], [Item(0, "a")]),
    )
    assert torch.equal(task.draw(image, none), image)
    assert not torch.equal(task.draw(image, one), image)
