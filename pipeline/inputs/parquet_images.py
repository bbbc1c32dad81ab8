"""Open images in the rows of Parquet files, as Hugging Face datasets store them.

The image column has the type struct<bytes, path> or plain binary.
"""

import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import PurePosixPath
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.core.types import Entry, InputError, Status
from pipeline.inputs.row_groups import RowGroupCache, RowGroupId

PARQUET_SUFFIXES = frozenset((".parquet",))
_MAX_GROUP_BYTES = 2 << 30  # limit in memory, because a row group is read as a whole
_MAX_ROWS = 10_000_000  # limit per file, because a forged footer can claim any number
_BYTES, _PATH = "bytes", "path"  # fields of the struct in Hugging Face datasets


class ParquetImages:
    """Opens the images of Parquet rows as files. Several threads may use it at once."""

    def __init__(self, open_file: Callable[[str], BinaryIO], column: str) -> None:
        """Prepare to open images.

        Args:
            open_file: A function that opens the Parquet file of a key.
            column: Name of the column that holds the images.
        """
        self.open_file, self.column = open_file, column
        self.first_rows = lru_cache(maxsize=64)(self._read_first_rows)
        self.groups = RowGroupCache(self._read_group)

    def open(self, entry: Entry) -> BinaryIO:
        """Open the image of row number `entry.offset`. Raises InputError."""
        file = entry.key.rpartition("/")[0]
        first_rows = self.first_rows(file, entry.mtime_ns)
        if not 0 <= entry.offset < first_rows[-1]:
            raise InputError(
                Status.CHANGED, f"the file has {first_rows[-1]} rows now, not this one any more"
            )

        number = int(np.searchsorted(first_rows, entry.offset, side="right")) - 1
        images = self.groups.get(RowGroupId(file, entry.mtime_ns, number))
        value = images[entry.offset - int(first_rows[number])].as_py()
        is_struct = isinstance(value, dict)
        data, path = (value.get(_BYTES), value.get(_PATH)) if is_struct else (value, None)
        if data is None:
            detail = f", only the path {path!r}: the dataset was saved without its images"
            raise InputError(Status.EMPTY, f"the row has no bytes{detail if path else ''}")
        return io.BytesIO(data)

    @contextmanager
    def open_table(self, key: str, mtime_ns: int = 0) -> Iterator[pq.ParquetFile]:
        """Open a Parquet file that has the column of images.

        Args:
            key: Key of the Parquet file.
            mtime_ns: The modification time in the plan, in nanoseconds; 0 accepts any time.

        Raises:
            InputError: The file cannot be read, now or inside the `with` block.
        """
        with self.open_file(key) as file:
            if mtime_ns and _read_mtime_ns(file) not in (0, mtime_ns):
                raise InputError(
                    Status.CHANGED, "the Parquet file is not the one that the plan lists"
                )
            try:
                with pq.ParquetFile(file) as table:
                    self._check_table(table)
                    yield table
            except (pa.ArrowException, OSError, EOFError, ValueError, OverflowError) as error:
                reason = " ".join(str(error).split())[:300]
                raise InputError(
                    Status.CORRUPT, f"the Parquet file cannot be read: {reason}"
                ) from None

    def _check_table(self, table: pq.ParquetFile) -> None:
        """Raise InputError or ArrowInvalid for a file without images, too large or with a bad
        footer.
        """
        schema, metadata = table.schema_arrow, table.metadata
        if schema.names.count(self.column) != 1 or not is_image_type(
            schema.field(self.column).type
        ):
            existing = ", ".join(f"{field.name} ({field.type})" for field in schema)
            raise InputError(
                Status.UNSUPPORTED,
                f"no column {self.column!r} of images in the Parquet file; it has {existing}",
            )

        groups = [metadata.row_group(i) for i in range(table.num_row_groups)]
        counts = [group.num_rows for group in groups]
        if min(counts, default=0) < 0 or sum(counts) != metadata.num_rows:
            raise pa.ArrowInvalid("its footer contradicts itself about the number of rows")
        if metadata.num_rows > _MAX_ROWS:
            raise InputError(
                Status.TOO_LARGE,
                f"{metadata.num_rows:,} rows in one file; up to {_MAX_ROWS:,} are read",
            )

        largest = max((group.total_byte_size for group in groups), default=0)
        if largest > _MAX_GROUP_BYTES:
            raise InputError(
                Status.TOO_LARGE,
                f"a row group of {largest:,} bytes; up to {_MAX_GROUP_BYTES:,} are read at once. "
                "Write smaller ones",
            )

    def _read_first_rows(self, file: str, mtime_ns: int) -> np.ndarray:
        """Read where the row groups of a file begin.

        Returns:
            (groups + 1,) the number of the first row of each group, and last the number of rows.
        """
        with self.open_table(file, mtime_ns) as table:
            counts = [table.metadata.row_group(i).num_rows for i in range(table.num_row_groups)]
        return np.concatenate(([0], np.cumsum(counts, dtype=np.int64)))

    def _read_group(self, group: RowGroupId) -> pa.ChunkedArray:
        """Read the image column of a row group."""
        with self.open_table(group.file, group.mtime_ns) as table:
            rows = table.read_row_group(group.number, columns=[self.column], use_threads=False)
            images = rows[self.column]
            if len(images) != table.metadata.row_group(group.number).num_rows:
                raise pa.ArrowInvalid("a row group has not the rows that the footer says")
            images.validate(full=True)  # pyarrow may read a damaged file without an error
            return images


def is_image_type(kind: pa.DataType) -> bool:
    """Return whether a column of this type can hold images."""
    if pa.types.is_struct(kind):
        return kind.get_field_index(_BYTES) >= 0 and _is_binary(kind.field(_BYTES).type)
    return _is_binary(kind)


def find_path_column(schema: pa.Schema, column: str) -> str | None:
    """Return the dotted name of the field with the image's file name; None if there is none."""
    kind = schema.field(column).type
    if not pa.types.is_struct(kind) or kind.get_field_index(_PATH) < 0:
        return None
    path = kind.field(_PATH).type
    is_text = pa.types.is_string(path) or pa.types.is_large_string(path)
    return f"{column}.{_PATH}" if is_text else None


def known_suffix(path: str | None, suffixes: frozenset[str]) -> str:
    """Return the lower-case suffix of a file name if `suffixes` contains it, else empty text."""
    suffix = PurePosixPath(path or "").suffix.casefold()
    return suffix if suffix in suffixes else ""


def _is_binary(kind: pa.DataType) -> bool:
    return (
        pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind)
    )


def _read_mtime_ns(file: BinaryIO) -> int:
    """Return the modification time of a local file in nanoseconds; 0 for a remote file."""
    try:
        return os.fstat(file.fileno()).st_mtime_ns
    except (OSError, AttributeError):  # io.UnsupportedOperation is an OSError
        return 0
