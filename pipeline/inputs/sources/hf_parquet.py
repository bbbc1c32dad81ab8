"""Source `hf_parquet`: images in Parquet files, as Hugging Face datasets store them."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.config.validators import check_text
from pipeline.core.errors import ConfigError
from pipeline.core.keys import key_to_path
from pipeline.core.protocols import ImageDecoder
from pipeline.core.recorded_inputs import ImageReader, RecordedSource
from pipeline.core.types import Entry, InputError, Status
from pipeline.inputs.carried_columns import choose_fields, convert_values
from pipeline.inputs.decoding.formats import IMAGE_SUFFIXES
from pipeline.inputs.image_file_reader import ImageFileReader
from pipeline.inputs.image_source import ImageSource
from pipeline.inputs.parquet_images import (
    PARQUET_SUFFIXES,
    ParquetImages,
    find_path_column,
    known_suffix,
)
from pipeline.storage.listing import open_listing

_NUMBER_DIGITS = 8  # digits of a row's number in its key; no file has more rows
_BATCH_ROWS = 1 << 14
_SUFFIX_COLUMN = ""  # in the tables of `_read_rows`; no carried column has this name


class HfParquet(ImageSource):
    """Lists the rows of Parquet files without reading the images.

    The key of a row is `<path of the Parquet file>/<number of the row, from 0>`. If the row has the
    image's file name, the key ends in its suffix. `carry` names the columns to copy to the rows of
    the run; null copies all except the images. A Parquet file that cannot be read or lacks a column
    is one input with the key `<path of the Parquet file>/`.
    """

    def __init__(
        self,
        root: str,
        column: str,
        carry: Sequence[str] | str | None,
        image_decoder: ImageDecoder | None = None,
    ) -> None:
        super().__init__(image_decoder)
        self.listing = open_listing(root, PARQUET_SUFFIXES, "Parquet files", below=True)
        self.passed_over = self.listing.passed_over
        self.identity = f"hf_parquet:{self.listing.identity}"
        self.where, self.column = f"input={root}", check_text("source.column", column)
        self.images = ParquetImages(self.listing.open, self.column)
        schema = self._read_first_schema()
        self.columns: Sequence[pa.Field] = (
            choose_fields(schema, {self.column}, carry, self.where) if schema else ()
        )

    def entries(self) -> Iterator[Entry]:
        for file in self.listing.entries():
            try:
                rows = self._read_rows(file.key)
            except (InputError, OSError):  # reading this entry will raise it again
                if self._is_folder(file.key):
                    continue
                carried = (None,) * len(self.columns)
                yield Entry(f"{file.key}/", file.size, file.mtime_ns, carried)
            else:
                yield from _make_entries(file, rows)

    def _is_folder(self, key: str) -> bool:
        """Return whether the key is that of a folder, not a file.

        Spark writes folders named `*.parquet`. The files in such a folder are listed instead.
        """
        root = self.listing.root
        return isinstance(root, Path) and (root / key_to_path(key)).is_dir()

    def open(self, entry: Entry) -> BinaryIO:
        if not entry.key.endswith("/"):
            return self.images.open(entry)
        self._read_rows(entry.key.rstrip("/"))
        raise InputError(
            Status.CHANGED, "the Parquet file could not be read when the plan was made"
        )

    @classmethod
    def reopen(cls, recorded: RecordedSource) -> ImageReader:
        listing = open_listing(str(recorded.folder), (), "images")
        images = ParquetImages(listing.open, recorded.settings["column"])
        return ImageFileReader(images.open, recorded.pixel_settings)

    def _read_rows(self, file: str) -> pa.Table:
        """Read the suffix of the key and the carried columns for all rows of a Parquet file.

        Raises InputError.
        """
        with self.images.open_table(file) as table:
            schema, names = table.schema_arrow, [field.name for field in self.columns]
            absent = [name for name in names if schema.names.count(name) != 1]
            if absent:
                raise InputError(
                    Status.UNSUPPORTED,
                    f"expected one column {absent[0]!r} in the Parquet file, as others have; "
                    f"found {schema.names.count(absent[0])}",
                )

            path_column = find_path_column(schema, self.column)
            rows = table.read([*([path_column] if path_column else []), *names], use_threads=False)
            rows.validate(full=True)  # pyarrow may read a damaged file without an error

            suffixes = pa.repeat("", table.metadata.num_rows)
            if path_column:
                paths = pc.struct_field(rows[self.column], "path").to_pylist()
                known = [known_suffix(path, IMAGE_SUFFIXES) for path in paths]
                suffixes = pa.array(known, pa.string())
            carried = [convert_values(rows[field.name], field.type) for field in self.columns]
            return pa.table([suffixes, *carried], names=[_SUFFIX_COLUMN, *names])

    def _read_first_schema(self) -> pa.Schema | None:
        """Return the schema of the first file that can be read; None if none can.

        Raises:
            ConfigError: An earlier file has no image column.
        """
        for file in self.listing.entries():
            try:
                with self.images.open_table(file.key) as table:
                    return table.schema_arrow
            except (InputError, OSError) as error:
                if isinstance(error, InputError) and error.status is Status.UNSUPPORTED:
                    raise ConfigError(
                        f"{self.where}: {file.key}: {error}. Say source.column=NAME."
                    ) from None
        return None


def _make_entries(file: Entry, rows: pa.Table) -> Iterator[Entry]:
    number = 0
    for batch in rows.to_batches(_BATCH_ROWS):
        columns = (column.to_pylist() for column in batch.columns)
        for suffix, *carried in zip(*columns, strict=True):
            key = f"{file.key}/{number:0{_NUMBER_DIGITS}d}{suffix}"
            yield Entry(key, None, file.mtime_ns, tuple(carried), number)
            number += 1
