"""Source `manifest`: the images listed in a Parquet, CSV or text file, with further columns."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import PurePosixPath
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.config.validators import check_optional_text, check_text
from pipeline.core.errors import ConfigError, is_disk_full
from pipeline.core.keys import key_to_listed_path, listed_paths_to_keys
from pipeline.core.protocols import ImageDecoder
from pipeline.core.recorded_inputs import ImageReader, InputLocations, RecordedSource
from pipeline.core.types import Entry, InputError
from pipeline.inputs.carried_columns import (
    choose_fields,
    convert_type,
    convert_values,
    find_column,
)
from pipeline.inputs.image_file_reader import ImageFileReader
from pipeline.inputs.image_source import ImageSource
from pipeline.inputs.manifests.locations import (
    ManifestFiles,
    ManifestLocations,
    find_recorded_root,
    find_root,
)
from pipeline.inputs.manifests.reader import (
    MANIFEST_SUFFIXES,
    ReadBatches,
    name_row,
    open_manifest,
)
from pipeline.storage.external_sort import SortedRows
from pipeline.storage.listing import open_listing
from pipeline.storage.prefetch import Prefetcher

log = logging.getLogger(__name__)
# The first columns of the rows that are sorted. The carried columns follow.
_ENTRY_SCHEMA = pa.schema([("key", pa.string()), ("size", pa.int64()), ("mtime_ns", pa.int64())])


class Manifest(ImageSource):
    """Lists the paths in one column of a manifest, sorted by key.

    A key is the path in the manifest, escaped so that it never leads out of a folder (see
    `keys.py`). A path that is listed several times is one input if its rows are equal.

    Relative paths begin at `root` (see `manifests.locations.resolve_root`). `carry` names the
    columns to copy to the rows of the run; null copies all that the source itself does not use. If
    the manifest has the columns `size` (bytes) and `mtime` (a whole number or a time), listing does
    not look up the files.
    """

    def __init__(
        self,
        file: str,
        column: str,
        root: str | None,
        carry: Sequence[str] | str | None,
        image_decoder: ImageDecoder | None = None,
    ) -> None:
        super().__init__(image_decoder)
        self.listing = open_listing(file, MANIFEST_SUFFIXES, "manifests")
        self.where, self.column = f"input={file}", check_text("source.column", column)
        self.file = self._find_file()
        self.suffix = PurePosixPath(self.file.key).suffix.casefold()
        self.identity = f"manifest:{self.listing.identity}"
        self.files = ManifestFiles(
            find_root(self.listing.root, check_optional_text("source.root", root))
        )
        self._sorted: tuple[Entry, SortedRows] | None = None  # the manifest and its sorted rows
        self._has_warned = False  # whether the warning about repeated paths was given

        with self._open_manifest() as (schema, _):
            kind = find_column(schema, self.column, self.where, " Say source.column=NAME.").type
            if not _is_text(kind):
                raise ConfigError(
                    f"{self.where}: source.column={self.column} is {kind}; expected paths as text."
                )
            self.size, self.mtime = _find_number(schema, "size"), _find_number(schema, "mtime")
            used = [name for name in (self.column, self.size, self.mtime) if name]
            self.columns: Sequence[pa.Field] = choose_fields(schema, used, carry, self.where)

    def entries(self) -> Iterator[Entry]:
        previous: tuple | None = None
        n_repeated = 0
        for row in self._sorted_rows():
            if previous is None or row[0] != previous[0]:
                previous = row
                yield self.files.make_entry(row[0], row[1], row[2], row[3:])
                continue
            if row != previous:
                raise ConfigError(
                    f"{self.where}: {key_to_listed_path(row[0])!r} comes twice, with "
                    f"{_describe(previous)} and with {_describe(row)}. Expected one row for each "
                    "path, or equal ones; source.carry=[a,b] leaves columns out."
                )
            n_repeated += 1

        if n_repeated and not self._has_warned:
            log.warning(
                "%s: %d rows came again, equal to one before; each path is one input.",
                self.where,
                n_repeated,
            )
            self._has_warned = True

    def open(self, entry: Entry) -> BinaryIO:
        return self.files.open(entry.key)

    @classmethod
    def locate(cls, recorded: RecordedSource) -> InputLocations:
        return ManifestLocations(find_recorded_root(recorded))

    @classmethod
    def reopen(cls, recorded: RecordedSource) -> ImageReader:
        listing = open_listing(str(find_recorded_root(recorded)), (), "images")
        files = ManifestFiles(listing.root)
        return ImageFileReader(lambda entry: files.open(entry.key), recorded.pixel_settings)

    def prefetch(self, entries: Sequence[Entry], seconds: float) -> None:
        """Begin to fetch the entries that are addresses."""
        remote = [entry for entry in entries if self.files.locations.is_remote(entry.key)]
        if remote and self.prefetcher is None:
            self.prefetcher = Prefetcher(self.files.read)
        super().prefetch(remote, seconds)

    def close(self) -> None:
        super().close()
        self._forget_rows()

    def _sorted_rows(self) -> Iterator[tuple[Any, ...]]:
        """Yield rows (key, size, mtime_ns, *carried), sorted by key.

        The manifest is read and sorted again only if it has changed.
        """
        file = self._find_file()
        if self._sorted is None or self._sorted[0] != file:
            self._forget_rows()
            self._sorted = file, self._sort_rows()
        return iter(self._sorted[1])

    def _forget_rows(self) -> None:
        if self._sorted:
            self._sorted[1].close()
            self._sorted = None

    def _sort_rows(self) -> SortedRows:
        carried = [field.name for field in self.columns]
        names = list(dict.fromkeys(filter(None, (self.column, self.size, self.mtime, *carried))))
        with self._open_manifest() as (schema, read_batches):
            rows = SortedRows(pa.schema([*_ENTRY_SCHEMA, *self.columns]))
            try:
                for name in names:  # the manifest may have changed since the source was built
                    find_column(schema, name, self.where)
                n_rows = 0
                for table in read_batches(names):
                    rows.add(self._prepare_rows(table, n_rows))
                    n_rows += len(table)
                rows.finish()
            except BaseException:
                rows.close()
                raise
        return rows

    def _prepare_rows(self, table: pa.Table, first: int) -> pa.Table:
        """Convert a batch of the manifest's rows to the rows that are sorted.

        `first` is the number of the batch's first row in the manifest.
        """
        paths = table[self.column].cast(pa.string())
        without_path = pc.index(pc.fill_null(pc.equal(paths, ""), True), True).as_py()
        if without_path >= 0:
            where = f"{self.where}: {name_row(first + without_path, self.suffix)}"
            raise ConfigError(
                f"{where} has no path in column {self.column!r}. Expected one in each row."
            )

        sizes = self._convert_numbers(table, self.size)
        if (pc.min(sizes).as_py() or 0) < 0:
            raise ConfigError(
                f"{self.where}: column {self.size!r} has {pc.min(sizes)}; expected bytes, 0 or "
                "more."
            )

        keys = [listed_paths_to_keys(chunk) for chunk in paths.chunks]
        mtimes = self._convert_numbers(table, self.mtime)
        carried = [convert_values(table[field.name], field.type) for field in self.columns]
        return pa.table(
            [pa.chunked_array(keys, pa.string()), sizes, mtimes, *carried],
            schema=pa.schema([*_ENTRY_SCHEMA, *self.columns]),
        )

    def _convert_numbers(self, table: pa.Table, name: str | None) -> pa.ChunkedArray:
        """Return a column as int64, with times in nanoseconds; only nulls if `name` is None."""
        if name is None:
            return pa.chunked_array([pa.nulls(len(table), pa.int64())])
        column = table[name]
        if pa.types.is_timestamp(column.type):
            column = column.cast(pa.timestamp("ns", column.type.tz))
        return column.cast(pa.int64())

    @contextmanager
    def _open_manifest(self) -> Iterator[tuple[pa.Schema, ReadBatches]]:
        """Open the manifest. Raises ConfigError if it cannot be read, now or inside the `with`."""
        try:
            with (
                self.listing.open(self.file.key) as file,
                open_manifest(file, self.suffix, self.where) as opened,
            ):
                yield opened
        except (InputError, OSError) as error:
            if isinstance(error, OSError) and is_disk_full(error):  # sorting writes to the disk
                raise
            raise ConfigError(f"{self.where}: cannot be read: {error}.") from None

    def _find_file(self) -> Entry:
        """Return the entry of the manifest. Raises ConfigError unless the input is one file."""
        found = list(islice(self.listing.entries(), 2))
        if len(found) != 1:
            raise ConfigError(
                f"{self.where}: expected one manifest, a file ending in "
                f"{' '.join(sorted(MANIFEST_SUFFIXES))}; found {'several' if found else 'none'}."
            )
        return found[0]


def _is_text(kind: pa.DataType) -> bool:
    return convert_type(kind) == pa.string() and not pa.types.is_null(kind)


def _find_number(schema: pa.Schema, name: str) -> str | None:
    """Return the name if exactly one column has it and its type is suitable, else None.

    Suitable are whole numbers, and times for `mtime`.
    """
    types = [field.type for field in schema if field.name == name]
    if len(types) != 1:
        return None
    is_time = name == "mtime" and pa.types.is_timestamp(types[0])
    return name if pa.types.is_integer(types[0]) or is_time else None


def _describe(row: tuple[Any, ...]) -> str:
    """Format the carried values of a row for a message."""
    return ", ".join(map(str, row[3:])) or "another size or mtime"
