"""Images in the rows of Parquet files, as Hugging Face datasets keep them: a column struct<bytes, path>, or plain binary."""

import io
import os
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from functools import lru_cache
from pathlib import PurePosixPath
from threading import Lock
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.core.types import Entry, InputError, Status

PARQUET_SUFFIXES = frozenset((".parquet",))
_HELD_BYTES = (
    256 << 20
)  # of row groups that are kept, because a shard's images are read twice: headers, then pixels
_LARGEST_GROUP = 2 << 30  # bytes: a row group is read as a whole
_MOST_ROWS = 10_000_000  # of a file: a footer is easily made that claims any number
_BYTES, _PATH = "bytes", "path"  # Hugging Face's names in the struct


class ParquetImages:
    """Reads rows as files. Several threads may; a row group is read by one of them, and then kept for a while."""

    def __init__(self, open_file: Callable[[str], BinaryIO], column: str) -> None:
        """`open_file`: key of a Parquet file -> its bytes."""
        self.open_file, self.column = open_file, column
        self.first_rows = lru_cache(maxsize=64)(self._first_rows)
        self.groups = _RowGroups(self._read_group)

    def open(self, entry: Entry) -> BinaryIO:
        """The bytes of one row, as `entry.offset` counts them. Raises InputError."""
        file = entry.key.rpartition("/")[0]
        first_rows = self.first_rows(file, entry.mtime_ns)
        if not 0 <= entry.offset < first_rows[-1]:
            raise InputError(
                Status.CHANGED, f"the file has {first_rows[-1]} rows now, not this one any more"
            )
        group = int(np.searchsorted(first_rows, entry.offset, side="right")) - 1
        value = self.groups.get((file, entry.mtime_ns, group))[
            entry.offset - int(first_rows[group])
        ].as_py()
        data, path = (
            (value.get(_BYTES), value.get(_PATH)) if isinstance(value, dict) else (value, None)
        )
        if data is None:
            named = (
                f", only the path {path!r}: the dataset was saved without its images"
                if path
                else ""
            )
            raise InputError(Status.EMPTY, f"the row has no bytes{named}")
        return io.BytesIO(data)

    @contextmanager
    def file(self, key: str, mtime_ns: int = 0) -> Iterator[pq.ParquetFile]:
        """A Parquet file with the column of images, and the time that it was planned with. Raises InputError."""
        with self.open_file(key) as file:
            if mtime_ns and _mtime_ns(file) not in (0, mtime_ns):
                raise InputError(
                    Status.CHANGED, "the Parquet file is not the one that the plan lists"
                )
            try:
                with pq.ParquetFile(file) as table:
                    self._check(table)
                    yield table
            except (pa.ArrowException, OSError, EOFError, ValueError, OverflowError) as error:
                said = " ".join(str(error).split())[:300]
                raise InputError(
                    Status.CORRUPT, f"the Parquet file cannot be read: {said}"
                ) from None

    def _check(self, table: pq.ParquetFile) -> None:
        schema = table.schema_arrow
        if schema.names.count(self.column) != 1 or not is_image_type(
            schema.field(self.column).type
        ):
            there = ", ".join(f"{field.name} ({field.type})" for field in schema)
            raise InputError(
                Status.UNSUPPORTED,
                f"no column {self.column!r} of images in the Parquet file; it has {there}",
            )
        groups = [table.metadata.row_group(i) for i in range(table.num_row_groups)]
        if (
            any(group.num_rows < 0 for group in groups)
            or sum(group.num_rows for group in groups) != table.metadata.num_rows
        ):
            raise pa.ArrowInvalid("its footer contradicts itself about the number of rows")
        if table.metadata.num_rows > _MOST_ROWS:
            raise InputError(
                Status.TOO_LARGE,
                f"{table.metadata.num_rows:,} rows in one file; up to {_MOST_ROWS:,} are read",
            )
        sizes = [group.total_byte_size for group in groups]
        if max(sizes, default=0) > _LARGEST_GROUP:
            said = f"a row group of {max(sizes):,} bytes; up to {_LARGEST_GROUP:,} are read at once. Write smaller ones"
            raise InputError(Status.TOO_LARGE, said)

    def _first_rows(self, file: str, mtime_ns: int) -> np.ndarray:
        """(groups + 1,) the number of each row group's first row, and of all rows."""
        with self.file(file, mtime_ns) as table:
            counts = [table.metadata.row_group(i).num_rows for i in range(table.num_row_groups)]
        return np.concatenate(([0], np.cumsum(counts, dtype=np.int64)))

    def _read_group(self, where: tuple[str, int, int]) -> pa.ChunkedArray:
        file, mtime_ns, group = where
        with self.file(file, mtime_ns) as table:
            images = table.read_row_group(group, columns=[self.column], use_threads=False)[
                self.column
            ]
            if len(images) != table.metadata.row_group(group).num_rows:
                raise pa.ArrowInvalid("a row group has not the rows that the footer says")
            images.validate(full=True)  # damaged files may have been read without an error
            return images


class _RowGroups:
    """The last ones used, up to _HELD_BYTES; each is read by one thread, for which the others wait that want it."""

    def __init__(self, read: Callable[[tuple[str, int, int]], pa.ChunkedArray]) -> None:
        self.read = read
        self._lock = Lock()
        self._held: OrderedDict[tuple[str, int, int], Future[pa.ChunkedArray]] = OrderedDict()

    def get(self, where: tuple[str, int, int]) -> pa.ChunkedArray:
        with self._lock:
            found = self._held.get(where)
            future = self._held.setdefault(where, Future())
            self._held.move_to_end(where)
        if found is None:
            try:
                future.set_result(self.read(where))
            except BaseException as error:  # who waits gets it too; who comes later tries again
                with self._lock:
                    self._held.pop(where, None)
                future.set_exception(error)
                raise
            self._forget()
        return future.result()

    def _forget(self) -> None:
        """The ones not used for the longest, but for the last one."""
        with self._lock:
            held = sum(one.result().nbytes for one in self._held.values() if one.done())
            for where in list(self._held)[:-1]:
                if held <= _HELD_BYTES:
                    return
                if self._held[where].done():
                    held -= self._held.pop(where).result().nbytes


def is_image_type(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return kind.get_field_index(_BYTES) >= 0 and _is_binary(kind.field(_BYTES).type)
    return _is_binary(kind)


def find_path_column(schema: pa.Schema, column: str) -> str | None:
    """Where the struct has the images' file names, as Parquet names it; None where it has none."""
    kind = schema.field(column).type
    if not pa.types.is_struct(kind) or kind.get_field_index(_PATH) < 0:
        return None
    path = kind.field(_PATH).type
    return (
        f"{column}.{_PATH}" if pa.types.is_string(path) or pa.types.is_large_string(path) else None
    )


def known_suffix(path: str | None, known: frozenset[str]) -> str:
    """`.jpg` of a file name, where that is the suffix of an image; else nothing. The name is anybody's."""
    suffix = PurePosixPath(path or "").suffix.casefold()
    return suffix if suffix in known else ""


def _is_binary(kind: pa.DataType) -> bool:
    return (
        pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind)
    )


def _mtime_ns(file: BinaryIO) -> int:
    """0 where it is no file of this machine's."""
    try:
        return os.fstat(file.fileno()).st_mtime_ns
    except (OSError, AttributeError):  # io.UnsupportedOperation is an OSError
        return 0
