"""Images in Parquet files, as Hugging Face datasets keep them."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.config.validators import check_text
from pipeline.core.errors import ConfigError
from pipeline.core.keys import key_to_path
from pipeline.core.types import Entry, InputError, Status
from pipeline.inputs.carried_columns import choose_fields, convert_values
from pipeline.inputs.decoding.image import IMAGE_SUFFIXES
from pipeline.inputs.image_source import ImageSource
from pipeline.inputs.parquet_images import (
    PARQUET_SUFFIXES,
    ParquetImages,
    find_path_column,
    known_suffix,
)
from pipeline.storage.listing import open_listing

_DIGITS = 8  # of a row's number in its key; no file has more rows
_AT_ONCE = 1 << 14  # rows


class HfParquet(ImageSource):
    """A row's key is `<the Parquet file's path>/<its number, from 0>` and the suffix of its image's name, where the file has
    that. `carry`: columns that go into every row; null: all but the images. A Parquet file that cannot be read, or has no
    such column, is one row with the key `<its path>/`. Planning reads no image."""

    def __init__(self, root: str, column: str, carry: Any) -> None:
        self.listing = open_listing(root, PARQUET_SUFFIXES, "Parquet files", below=True)
        self.identity = f"hf_parquet:{self.listing.identity}"
        self.where, self.column = f"input={root}", check_text("source.column", column)
        self.tables = ParquetImages(self.listing.open, self.column)
        schema = self._first_schema()
        self.columns: Sequence[pa.Field] = (
            choose_fields(schema, {self.column}, carry, self.where) if schema else ()
        )

    def entries(self) -> Iterator[Entry]:
        for file in self.listing.entries():
            try:
                rows = self._rows(file.key)
            except (InputError, OSError):  # said again, in its row, when its turn comes
                if self._is_folder(file.key):
                    continue
                yield Entry(f"{file.key}/", file.size, file.mtime_ns, (None,) * len(self.columns))
            else:
                yield from _entries_of(file, rows)

    def _is_folder(self, key: str) -> bool:
        """Spark's data sets are folders called *.parquet: what is in them is listed, and they need no row."""
        return (
            isinstance(self.listing.root, Path) and (self.listing.root / key_to_path(key)).is_dir()
        )

    def open(self, entry: Entry) -> BinaryIO:
        if not entry.key.endswith("/"):
            return self.tables.open(entry)
        self._rows(entry.key.rstrip("/"))
        raise InputError(
            Status.CHANGED, "the Parquet file could not be read when the plan was made"
        )

    def _rows(self, file: str) -> pa.Table:
        """All rows of a Parquet file: the suffix that their keys are to have, and what they carry. Raises InputError."""
        with self.tables.file(file) as table:
            schema, names = table.schema_arrow, [field.name for field in self.columns]
            absent = [name for name in names if name not in schema.names]
            if absent:
                raise InputError(
                    Status.UNSUPPORTED,
                    f"no column {absent[0]!r} in the Parquet file, as others have",
                )
            path = find_path_column(schema, self.column)
            rows = table.read([*([path] if path else []), *names], use_threads=False)
            rows.validate(full=True)  # damaged files may have been read without an error
            suffixes = pa.repeat("", table.metadata.num_rows)
            if path:
                paths = pc.struct_field(rows[self.column], "path").to_pylist()
                suffixes = pa.array(
                    [known_suffix(one, IMAGE_SUFFIXES) for one in paths], pa.string()
                )
            carried = [convert_values(rows[field.name], field.type) for field in self.columns]
            return pa.table([suffixes, *carried], names=["", *names])

    def _first_schema(self) -> pa.Schema | None:
        """Of the first file that can be read; None where none can. Raises ConfigError where it has no such column."""
        for file in self.listing.entries():
            try:
                with self.tables.file(file.key) as table:
                    return table.schema_arrow
            except (InputError, OSError) as error:
                if isinstance(error, InputError) and error.status is Status.UNSUPPORTED:
                    raise ConfigError(
                        f"{self.where}: {file.key}: {error}. Say source.column=NAME."
                    ) from None
        return None


def _entries_of(file: Entry, rows: pa.Table) -> Iterator[Entry]:
    number = 0
    for batch in rows.to_batches(_AT_ONCE):
        for suffix, *carried in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            yield Entry(
                f"{file.key}/{number:0{_DIGITS}d}{suffix}",
                None,
                file.mtime_ns,
                tuple(carried),
                number,
            )
            number += 1
