"""Sort rows by their first column in bounded memory, however many there are."""

from collections.abc import Iterator
from heapq import merge
from operator import itemgetter
from tempfile import TemporaryFile
from typing import Any

import pyarrow as pa

_RUN_BYTES = 64 << 20  # rows that are sorted at once
_BATCH_ROWS = 1 << 11  # rows of each sorted run that are in memory while runs are merged


class SortedRows:
    """Rows sorted by their first column, which must be text. The sort is stable.

    Add tables, call `finish`, then iterate as often as needed.

    Sorted runs are kept in an unnamed temporary file. A run that begins where the run before it
    ends continues that run, so rows that were added in order are not merged.
    """

    def __init__(self, schema: pa.Schema) -> None:
        self._file = TemporaryFile(prefix="visionbatch-")  # noqa: SIM115 - closed by `close`
        options = pa.ipc.IpcWriteOptions(compression="zstd")
        self._writer = pa.ipc.new_file(self._file, schema, options=options)
        self._runs: list[tuple[int, int]] = []  # for each run, its range of batches: first, end
        self._pending: list[pa.Table] = []
        self._pending_bytes = 0
        self._last_key = ""  # of the rows written so far

    def add(self, rows: pa.Table) -> None:
        """Add rows in any order."""
        self._pending.append(rows)
        self._pending_bytes += rows.nbytes
        if self._pending_bytes >= _RUN_BYTES:
            self._write_run()

    def finish(self) -> None:
        """Write what is pending. No rows may be added after this."""
        if self._pending:
            self._write_run()
        self._writer.close()

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        reader = pa.ipc.open_file(self._file)
        runs = [_iterate_rows(reader, *run) for run in self._runs]
        return merge(*runs, key=itemgetter(0)) if len(runs) > 1 else iter(runs[0] if runs else ())

    def close(self) -> None:
        """Delete the temporary file."""
        self._file.close()

    def _write_run(self) -> None:
        rows = pa.concat_tables(self._pending).combine_chunks()
        self._pending, self._pending_bytes = [], 0
        if not len(rows):
            return

        rows = rows.sort_by(rows.schema.names[0])
        batches = rows.combine_chunks().to_batches(_BATCH_ROWS)
        first = begin = self._runs[-1][1] if self._runs else 0
        if self._runs and rows[0][0].as_py() >= self._last_key:
            begin = self._runs.pop()[0]
        for batch in batches:
            self._writer.write_batch(batch)
        self._runs.append((begin, first + len(batches)))
        self._last_key = rows[0][-1].as_py()


def _iterate_rows(
    reader: pa.ipc.RecordBatchFileReader, first: int, end: int
) -> Iterator[tuple[Any, ...]]:
    for i in range(first, end):
        yield from zip(*(column.to_pylist() for column in reader.get_batch(i).columns), strict=True)
