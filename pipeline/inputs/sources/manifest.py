"""The images that a list names: Parquet, CSV or text, with columns that go into every row."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import PurePosixPath
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.config.validators import check_optional_text, check_text
from pipeline.core.errors import ConfigError, is_disk_full
from pipeline.core.keys import key_to_listed_path, listed_paths_to_keys
from pipeline.core.types import Entry, InputError
from pipeline.inputs.carried_columns import (
    choose_fields,
    convert_type,
    convert_values,
    find_column,
)
from pipeline.inputs.image_source import ImageSource
from pipeline.inputs.manifests.locations import ManifestPaths, find_root
from pipeline.inputs.manifests.reader import MANIFEST_SUFFIXES, ReadBatches, name_row, open_manifest
from pipeline.storage.external_sort import SortedRows
from pipeline.storage.listing import open_listing
from pipeline.storage.prefetch import Prefetcher

log = logging.getLogger(__name__)
_OWN = pa.schema([("key", pa.string()), ("size", pa.int64()), ("mtime_ns", pa.int64())])


class Manifest(ImageSource):
    """Lists what the manifest names in its `column`, sorted by key. A key is the path as the manifest has it, made a name
    that leads out of no folder (see `keys.py`). `root`: see `manifest.root_of`. `carry`: columns that go into every row;
    null: all others. With the columns `size` (bytes) and `mtime` (a whole number or a time) no file is looked at.

    A path that comes twice is one input, where its rows are equal."""

    def __init__(self, file: str, column: str, root: str | None, carry: Any) -> None:
        self.listing = open_listing(file, MANIFEST_SUFFIXES, "manifests")
        self.where, self.column = f"input={file}", check_text("source.column", column)
        self.file = self._only_file()
        self.suffix = PurePosixPath(self.file.key).suffix.casefold()
        self.identity = f"manifest:{self.listing.identity}"
        self.paths = ManifestPaths(
            find_root(self.listing.root, check_optional_text("source.root", root))
        )
        self._sorted: tuple[Entry, SortedRows] | None = None  # the manifest that was sorted
        self._told = False  # how many came twice
        with self._reading() as (schema, _):
            kind = find_column(schema, self.column, self.where, " Say source.column=NAME.").type
            if not _is_text(kind):
                raise ConfigError(
                    f"{self.where}: source.column={self.column} is {kind}; expected paths as text."
                )
            self.size, self.mtime = _number(schema, "size"), _number(schema, "mtime")
            used = {self.column, self.size, self.mtime}
            self.columns = choose_fields(schema, {name for name in used if name}, carry, self.where)

    def entries(self) -> Iterator[Entry]:
        before: tuple | None = None
        twice = 0
        for row in self._rows():
            if before is not None and row[0] == before[0]:
                if row != before:
                    raise ConfigError(
                        f"{self.where}: {key_to_listed_path(row[0])!r} comes twice, with {_told(before)} and with {_told(row)}. "
                        "Expected one row for each path, or equal ones; source.carry=[a,b] leaves columns out."
                    )
                twice += 1
                continue
            before = row
            yield self.paths.entry(row[0], row[1], row[2], row[3:])
        if twice and not self._told:
            log.warning(
                "%s: %d rows came again, equal to one before; each path is one input.",
                self.where,
                twice,
            )
            self._told = True

    def open(self, entry: Entry) -> BinaryIO:
        return self.paths.open(entry.key)

    def prefetch(self, entries: Sequence[Entry], seconds: float) -> None:
        far = [entry for entry in entries if self.paths.is_remote(entry.key)]
        if far and self.prefetcher is None:
            self.prefetcher = Prefetcher(self.paths.read)
        super().prefetch(far, seconds)

    def close(self) -> None:
        super().close()
        if self._sorted:
            self._sorted[1].close()
            self._sorted = None

    def _rows(self) -> Iterator[tuple[Any, ...]]:
        """(key, size, mtime_ns, *carried) by key, of the manifest as it is now; it is read and sorted once."""
        now = self._only_file()
        if self._sorted is None or self._sorted[0] != now:
            self.close()
            self._sorted = now, self._read()
        return iter(self._sorted[1])

    def _read(self) -> SortedRows:
        number, names = 0, [field.name for field in self.columns]
        with self._reading() as (schema, batches), ExitStack() as undo:
            rows = SortedRows(pa.schema([*_OWN, *self.columns]))
            undo.callback(rows.close)
            wanted = list(dict.fromkeys(filter(None, (self.column, self.size, self.mtime, *names))))
            for name in wanted:
                find_column(
                    schema, name, self.where
                )  # it may have changed since the source was made
            for table in batches(wanted):
                rows.add(self._prepared(table, number))
                number += len(table)
            rows.finish()
            undo.pop_all()
        return rows

    def _prepared(self, table: pa.Table, first: int) -> pa.Table:
        """Rows as they are sorted; `first` is the number of rows before them."""
        paths = table[self.column].cast(pa.string())
        absent = pc.index(pc.fill_null(pc.equal(paths, ""), True), True).as_py()
        if absent >= 0:
            where = f"{self.where}: {name_row(first + absent, self.suffix)}"
            raise ConfigError(
                f"{where} has no path in column {self.column!r}. Expected one in each row."
            )
        sizes = self._numbers(table, self.size)
        if (pc.min(sizes).as_py() or 0) < 0:
            raise ConfigError(
                f"{self.where}: column {self.size!r} has {pc.min(sizes)}; expected bytes, 0 or more."
            )
        carried = [convert_values(table[field.name], field.type) for field in self.columns]
        keys = pa.chunked_array(
            [listed_paths_to_keys(chunk) for chunk in paths.chunks], pa.string()
        )
        return pa.table(
            [keys, sizes, self._numbers(table, self.mtime), *carried],
            schema=pa.schema([*_OWN, *self.columns]),
        )

    def _numbers(self, table: pa.Table, name: str | None) -> pa.ChunkedArray:
        """int64; times as nanoseconds."""
        if name is None:
            return pa.chunked_array([pa.nulls(len(table), pa.int64())])
        column = table[name]
        times = pa.types.is_timestamp(column.type)
        return (column.cast(pa.timestamp("ns", column.type.tz)) if times else column).cast(
            pa.int64()
        )

    @contextmanager
    def _reading(self) -> Iterator[tuple[pa.Schema, ReadBatches]]:
        try:
            with (
                self.listing.open(self.file.key) as file,
                open_manifest(file, self.suffix, self.where) as found,
            ):
                yield found
        except (InputError, OSError) as error:
            if isinstance(error, OSError) and is_disk_full(error):  # where rows are sorted
                raise
            raise ConfigError(f"{self.where}: cannot be read: {error}.") from None

    def _only_file(self) -> Entry:
        found = list(islice(self.listing.entries(), 2))
        if len(found) != 1:
            said = f"expected one manifest, a file ending in {' '.join(sorted(MANIFEST_SUFFIXES))}; found"
            raise ConfigError(f"{self.where}: {said} {'several' if found else 'none'}.")
        return found[0]


def _is_text(kind: pa.DataType) -> bool:
    return convert_type(kind) == pa.string() and not pa.types.is_null(kind)


def _number(schema: pa.Schema, name: str) -> str | None:
    """The name of a column of whole numbers, for `mtime` also of times; None where there is no such."""
    kinds = [field.type for field in schema if field.name == name]
    times = name == "mtime" and kinds and pa.types.is_timestamp(kinds[0])
    return name if len(kinds) == 1 and (pa.types.is_integer(kinds[0]) or times) else None


def _told(row: tuple[Any, ...]) -> str:
    """What of a row is not its key."""
    return ", ".join(map(str, row[3:])) or "another size or mtime"
