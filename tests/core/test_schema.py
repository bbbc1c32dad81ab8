import json

import numpy as np
import pyarrow as pa
import pytest

from pipeline.core.errors import ConfigError, PipelineError
from pipeline.core.schema import (
    IMAGES_SCHEMA,
    add_carried_values,
    add_source_columns,
    make_carried_field,
    make_class_columns,
    make_image_rows,
    make_images_schema,
    make_predictions_schema,
)
from pipeline.core.types import Entry, Failure, Item, Status

NAMES = ("__background__", "cat", "crane", "dog", "crane")
SCHEMA = make_predictions_schema("detect", NAMES, [pa.field("x", pa.float32(), nullable=False)])


def items(*statuses):
    made = [Item(10 + i, f"{i}.jpg", size_hw=(20, 30 + i)) for i in range(len(statuses))]
    return [
        item if status is Status.OK else item.with_failure(Failure(status, f"it is {status}"))
        for item, status in zip(made, statuses, strict=True)
    ]


def predictions(*image_ids):
    n = len(image_ids)
    columns = make_class_columns(
        [Item(i, "k") for i in image_ids], [1] * n, np.zeros(n, np.int64), np.zeros(n), NAMES
    )
    return pa.table(columns | {"x": pa.array(np.zeros(n, np.float32))}, schema=SCHEMA)


# --- schemas


def test_the_common_columns_come_first_and_then_the_tasks_own():
    assert SCHEMA.names == ["image_id", "key", "class_id", "class_name", "score", "x"]
    assert not any(field.nullable for field in SCHEMA)


def test_both_files_say_what_they_hold():
    for schema in (SCHEMA, make_images_schema(SCHEMA)):
        assert json.loads(schema.metadata[b"categories"]) == list(NAMES)
        assert schema.metadata[b"task"] == b"detect" and schema.metadata[b"schema_version"]
    assert make_images_schema(SCHEMA).equals(IMAGES_SCHEMA)


@pytest.mark.parametrize("names", [(), ("犬", "éléphant"), ('"quoted"', "new\nline")])
def test_any_class_name_survives_the_metadata(names):
    assert json.loads(make_predictions_schema("detect", names, []).metadata[b"categories"]) == list(
        names
    )


# --- predictions


@pytest.mark.parametrize("counts", [[], [0], [0, 0, 0]])
def test_no_predictions_are_columns_without_rows(counts):
    columns = make_class_columns(
        items(*[Status.OK] * len(counts)), counts, np.zeros(0, np.int64), np.zeros(0), NAMES
    )
    columns["x"] = pa.array([], pa.float32())
    assert pa.table(columns, schema=SCHEMA).num_rows == 0


def test_each_row_carries_its_image_and_its_class():
    found = items(Status.OK, Status.OK, Status.OK)
    columns = make_class_columns(
        found, [2, 0, 1], np.array([1, 3, 2]), np.array([0.5, 0.25, 1.0]), NAMES
    )
    assert columns["image_id"].to_pylist() == [10, 10, 12]
    assert columns["key"].to_pylist() == ["0.jpg", "0.jpg", "2.jpg"]
    assert columns["class_id"].to_pylist() == [1, 3, 2]
    assert columns["class_name"].to_pylist() == ["cat", "dog", "crane"]
    assert columns["score"].to_pylist() == [0.5, 0.25, 1.0]


def test_two_ids_may_have_one_name():
    columns = make_class_columns(
        items(Status.OK), [2], np.array([2, 4]), np.array([0.5, 0.5]), NAMES
    )
    assert columns["class_id"].to_pylist() == [2, 4]
    assert columns["class_name"].to_pylist() == ["crane", "crane"]
    names = columns["class_name"].dictionary.to_pylist()
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("ids", "said"),
    [
        ([5], "class id 5"),
        ([0, 90], "class id 90"),
        ([-1], "class id -1"),
        pytest.param([-1, 3], "class id -1"),
    ],
)
def test_an_id_without_a_name_is_refused(ids, said):
    with pytest.raises(PipelineError, match=f"{said}, but there are 5 class names.*categories="):
        make_class_columns(items(Status.OK), [len(ids)], np.array(ids), np.zeros(len(ids)), NAMES)


# --- images


def test_no_items_are_no_rows():
    assert make_image_rows([], predictions(), make_images_schema(SCHEMA)).num_rows == 0


def test_one_row_per_item():
    found = make_image_rows(
        items(Status.OK, Status.TRUNCATED, Status.OK),
        predictions(12, 12, 12),
        make_images_schema(SCHEMA),
    )
    assert found.to_pylist() == [
        {
            "image_id": 10,
            "key": "0.jpg",
            "width": 30,
            "height": 20,
            "status": "ok",
            "error": None,
            "n_predictions": 0,
        },
        {
            "image_id": 11,
            "key": "1.jpg",
            "width": 31,
            "height": 20,
            "status": "truncated",
            "error": "it is truncated",
            "n_predictions": None,  # a failure is not zero detections
        },
        {
            "image_id": 12,
            "key": "2.jpg",
            "width": 32,
            "height": 20,
            "status": "ok",
            "error": None,
            "n_predictions": 3,
        },
    ]
    assert found.schema.equals(make_images_schema(SCHEMA), check_metadata=True)


@pytest.mark.parametrize("status", list(Status))
def test_every_status_can_be_written(status):
    found = make_image_rows(items(status), predictions(), make_images_schema(SCHEMA))
    assert found["status"].to_pylist() == [status.value]
    assert (found["error"].to_pylist() == [None]) is (status is Status.OK)


def test_an_unreadable_header_leaves_the_size_null():
    item = Item(0, "a.jpg").with_failure(Failure(Status.EMPTY, "the file has zero bytes"))
    found = make_image_rows([item], predictions(), make_images_schema(SCHEMA))
    assert (found["width"].to_pylist(), found["height"].to_pylist()) == ([None], [None])


def test_tables_of_different_batches_can_be_joined():
    schema = make_images_schema(SCHEMA)
    first, second = (
        make_image_rows(items(Status.OK), predictions(), schema),
        make_image_rows(items(Status.EMPTY), predictions(), schema),
    )
    assert pa.concat_tables([first, second]).unify_dictionaries()["status"].to_pylist() == [
        "ok",
        "empty",
    ]


# --- columns of the source

CARRIED = [make_carried_field("video", pa.string()), make_carried_field("time_s", pa.float64())]


def carrying(*values):
    return [
        Item(5 + i, f"{i}.jpg", (20, 30), entry=Entry(f"{i}.jpg", 1, 1, value))
        for i, value in enumerate(values)
    ]


def test_the_sources_columns_come_last_in_both_tables():
    schema = add_source_columns(SCHEMA, CARRIED)
    assert schema.names == [*SCHEMA.names, "video", "time_s"] and schema.metadata == SCHEMA.metadata
    assert make_images_schema(schema).names == [*IMAGES_SCHEMA.names, "video", "time_s"]
    assert add_source_columns(SCHEMA, ()) == SCHEMA


@pytest.mark.parametrize("name", ["score", "status", "x"])
def test_a_column_with_a_name_of_ours_is_refused(name):
    with pytest.raises(ConfigError, match=rf"\['{name}'\].*rename"):
        add_source_columns(SCHEMA, [make_carried_field(name, pa.int64())])


@pytest.mark.parametrize("counts", [[0, 0, 0], [2, 0, 1], [1, 1, 1]])
def test_each_row_carries_the_values_of_its_input(counts):
    found = carrying(("a.mp4", 0.5), ("a.mp4", None), ("b.mp4", 1.5))
    n = sum(counts)
    columns = make_class_columns(found, counts, np.ones(n, np.int64), np.zeros(n), NAMES)
    schema = add_source_columns(SCHEMA, CARRIED)
    rows = add_carried_values(
        pa.table(columns | {"x": pa.array(np.zeros(n, np.float32))}, schema=SCHEMA), found, schema
    )
    assert rows.schema.equals(schema, check_metadata=True)
    values = [("a.mp4", 0.5), ("a.mp4", None), ("b.mp4", 1.5)]
    expected = [value for value, count in zip(values, counts, strict=True) for _ in range(count)]
    assert list(zip(rows["video"].to_pylist(), rows["time_s"].to_pylist(), strict=True)) == expected
    images = make_image_rows(found, rows, make_images_schema(schema))
    assert images.schema.equals(make_images_schema(schema), check_metadata=True)
    assert images["time_s"].to_pylist() == [0.5, None, 1.5]
