import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.core.output_protocols import SinkContext
from pipeline.core.schema import make_image_rows, make_images_schema, make_predictions_schema
from pipeline.core.shard_names import make_part_name
from pipeline.core.types import Failure, Item, Status
from pipeline.outputs.sinks.parquet import Parquet, sort_by_image_id

SCHEMA = make_predictions_schema("detect", ("__background__", "cat", "dog"), [])


def make_batch(*image_ids, failed=()):
    """Return the tables of a batch: as many rows as an image's id, none for a failed image."""
    items = [Item(i, f"{i:03d}.jpg", (10, 20)) for i in image_ids]
    failure = Failure(Status.EMPTY, "the file has zero bytes")
    items = [item.with_failure(failure) if item.image_id in failed else item for item in items]
    rows = [(i, k) for i in image_ids if i not in failed for k in range(i)]
    predictions = pa.table(
        {
            "image_id": pa.array([i for i, _ in rows], pa.int64()),
            "key": pa.array([f"{i:03d}.jpg" for i, _ in rows], pa.string()),
            "class_id": pa.array([1 + k % 2 for _, k in rows], pa.int32()),
            "class_name": pa.array([("cat", "dog")[k % 2] for _, k in rows]).cast(
                SCHEMA.field("class_name").type
            ),
            "score": pa.array([1 - k / 100 for _, k in rows], pa.float32()),
        },
        schema=SCHEMA,
    )
    return make_image_rows(items, predictions, make_images_schema(SCHEMA)), predictions


def write(stage, *batches, shard_id=0, compression="zstd"):
    context = SinkContext(stage, shard_id, SCHEMA, None, None)
    with Parquet(compression).open(context) as writer:
        for one in batches:
            writer.write(*one)


def read(stage, kind, shard_id=0):
    return pq.read_table(stage / kind / make_part_name(shard_id), partitioning=None)


def list_files(stage):
    return sorted(str(path.relative_to(stage)) for path in stage.rglob("*") if path.is_file())


def test_the_files_are_those_that_the_docstring_names(tmp_path):
    write(tmp_path, make_batch(1))
    named = re.findall(r"\S+\.parquet", Parquet.__doc__)
    assert list_files(tmp_path) == sorted(named) and len(named) == 2


def test_no_batches_are_files_without_rows_but_with_columns(tmp_path):
    write(tmp_path)
    assert read(tmp_path, "images").num_rows == read(tmp_path, "predictions").num_rows == 0
    assert read(tmp_path, "images").schema.equals(make_images_schema(SCHEMA), check_metadata=True)
    assert read(tmp_path, "predictions").schema.equals(SCHEMA, check_metadata=True)


@pytest.mark.parametrize(
    "batches",
    [
        [make_batch(0, 1, 2, 3, 4)],
        [make_batch(3, 4), make_batch(0, 1, 2)],
        [make_batch(4, 2, 0), make_batch(3, 1)],
        [make_batch(4), make_batch(), make_batch(3), make_batch(2), make_batch(1), make_batch(0)],
    ],
)
def test_rows_are_in_input_order_whatever_order_the_batches_came_in(tmp_path, batches):
    write(tmp_path, *batches)
    images, predictions = read(tmp_path, "images"), read(tmp_path, "predictions")
    assert images["image_id"].to_pylist() == [0, 1, 2, 3, 4]
    assert images["n_predictions"].to_pylist() == [0, 1, 2, 3, 4]
    assert predictions["image_id"].to_pylist() == [1, 2, 2, 3, 3, 3, 4, 4, 4, 4]
    assert predictions["class_id"].to_pylist() == [
        1,
        1,
        2,
        1,
        2,
        1,
        1,
        2,
        1,
        2,
    ]  # rows of one image keep their order
    assert predictions["class_name"].to_pylist()[:3] == ["cat", "cat", "dog"]


def test_the_bytes_do_not_depend_on_the_order_of_the_batches(tmp_path):
    write(tmp_path / "a", make_batch(0, 1), make_batch(2, 3))
    write(tmp_path / "b", make_batch(2, 3), make_batch(0, 1))
    for name in list_files(tmp_path / "a"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_failed_image_is_a_row(tmp_path):
    write(tmp_path, make_batch(2, 1, failed={1}))
    found = read(tmp_path, "images").to_pylist()
    assert [(row["status"], row["n_predictions"]) for row in found] == [("empty", None), ("ok", 2)]
    assert read(tmp_path, "predictions").num_rows == 2


def test_the_file_says_what_it_holds(tmp_path):
    write(tmp_path, make_batch(1))
    for kind in ("images", "predictions"):
        metadata = pq.read_metadata(tmp_path / kind / "part-00000000.parquet").metadata
        assert metadata[b"task"] == b"detect" and b"cat" in metadata[b"categories"]


@pytest.mark.parametrize(
    ("shard_id", "name"), [(0, "part-00000000"), (7, "part-00000007"), (123456, "part-00123456")]
)
def test_a_part_is_named_by_its_shard(tmp_path, shard_id, name):
    write(tmp_path, make_batch(1), shard_id=shard_id)
    assert list_files(tmp_path) == [f"images/{name}.parquet", f"predictions/{name}.parquet"]


@pytest.mark.parametrize("error", [ValueError("boom"), KeyboardInterrupt("stop")])
def test_nothing_is_written_when_the_block_raises(tmp_path, error):
    with (
        pytest.raises(type(error)),
        Parquet("zstd").open(SinkContext(tmp_path, 0, SCHEMA, None, None)) as writer,
    ):
        writer.write(*make_batch(1, 2))
        raise error
    assert list_files(tmp_path) == []


@pytest.mark.parametrize("compression", ["zstd", "snappy", "none"])
def test_the_compression_is_the_one_that_was_asked_for(tmp_path, compression):
    write(tmp_path, make_batch(3), compression=compression)
    column = (
        pq.read_metadata(tmp_path / "predictions" / "part-00000000.parquet").row_group(0).column(0)
    )
    assert column.compression.casefold() == compression.replace("none", "uncompressed")


def test_sorting_is_stable():
    tables = [
        pa.table({"image_id": [1, 0, 1], "n": [0, 1, 2]}),
        pa.table({"image_id": [0, 1], "n": [3, 4]}),
    ]
    assert sort_by_image_id(tables).to_pydict() == {
        "image_id": [0, 0, 1, 1, 1],
        "n": [1, 3, 0, 2, 4],
    }
