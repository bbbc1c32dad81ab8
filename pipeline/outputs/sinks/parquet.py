"""Write two Parquet files for each shard: one row per input, and one row per prediction."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.core.output_protocols import SinkContext
from pipeline.core.schema import make_images_schema
from pipeline.core.shard_names import make_part_name


class Parquet:
    """Sink that writes the tables of a shard, with rows in input order:

        images/part-00000000.parquet
        predictions/part-00000000.parquet

    Args:
        compression: A compression codec of Parquet, for example zstd.
    """

    def __init__(self, compression: str) -> None:
        self.compression = compression

    @contextmanager
    def open(self, context: SinkContext) -> Iterator["_Writer"]:
        writer = _Writer(make_images_schema(context.predictions_schema), context.predictions_schema)
        yield writer
        # The files are written only after all rows came without an error. A ParquetWriter that was
        # open during an error would leave a valid file with a part of the rows.
        for folder, tables in (("images", writer.images), ("predictions", writer.predictions)):
            path = context.stage / folder / make_part_name(context.shard_id)
            self._write(path, sort_by_image_id(tables))

    def _write(self, path: Path, table: pa.Table) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, path, compression=self.compression)


class _Writer:
    """Writer that collects the tables of a shard in memory."""

    def __init__(self, images: pa.Schema, predictions: pa.Schema) -> None:
        self.images = [images.empty_table()]
        self.predictions = [predictions.empty_table()]

    def write(self, images: pa.Table, predictions: pa.Table) -> None:
        self.images.append(images)
        self.predictions.append(predictions)


def sort_by_image_id(tables: list[pa.Table]) -> pa.Table:
    """Return one table in input order.

    Rows of one image keep their order, because Arrow's sort is stable.
    """
    table = pa.concat_tables(tables).unify_dictionaries().combine_chunks()
    return table.sort_by("image_id").replace_schema_metadata(table.schema.metadata)
