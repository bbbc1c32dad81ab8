"""Rows in the order of their first column, however many there are, in bounded memory."""

from collections.abc import Iterator
from heapq import merge
from operator import itemgetter
from tempfile import TemporaryFile
from typing import Any

import pyarrow as pa

_RUN_BYTES = 64 << 20  # rows that are sorted at once
_BATCH_ROWS = 1 << 11  # of each sorted run that are in memory while runs are merged


class SortedRows:
    """Takes tables, then gives their rows, sorted by the first column (text), as often as asked; rows that are equal in it
    stay in the order they came in.

    Sorted runs are kept in an unnamed temporary file. A run that begins where the one before it ends continues it, so rows
    that came sorted are not merged."""

    def __init__(self, schema: pa.Schema) -> None:
        self._file = TemporaryFile(prefix="visionbatch-")  # noqa: SIM115 - closed by `close`
        options = pa.ipc.IpcWriteOptions(compression="zstd")
        self._writer = pa.ipc.new_file(self._file, schema, options=options)
        self._runs: list[tuple[int, int]] = []  # (first, end) of the batches of each
        self._held: list[pa.Table] = []
        self._bytes = 0
        self._last = ""  # of the rows written so far

    def add(self, rows: pa.Table) -> None:
        self._held.append(rows)
        self._bytes += rows.nbytes
        if self._bytes >= _RUN_BYTES:
            self._write_run()

    def finish(self) -> None:
        """No more rows will come."""
        if self._held:
            self._write_run()
        self._writer.close()

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        reader = pa.ipc.open_file(self._file)
        runs = [_rows(reader, *run) for run in self._runs]
        return merge(*runs, key=itemgetter(0)) if len(runs) > 1 else iter(runs[0] if runs else ())

    def close(self) -> None:
        self._file.close()

    def _write_run(self) -> None:
        rows = pa.concat_tables(self._held).combine_chunks()
        self._held, self._bytes = [], 0
        if not len(rows):
            return
        rows = rows.sort_by(rows.schema.names[0])
        batches = rows.combine_chunks().to_batches(_BATCH_ROWS)
        first = self._runs[-1][1] if self._runs else 0
        begin = self._runs.pop()[0] if self._runs and rows[0][0].as_py() >= self._last else first
        for batch in batches:
            self._writer.write_batch(batch)
        self._runs.append((begin, first + len(batches)))
        self._last = rows[0][-1].as_py()


def _rows(reader: pa.ipc.RecordBatchFileReader, first: int, end: int) -> Iterator[tuple[Any, ...]]:
    for i in range(first, end):
        yield from zip(*(column.to_pylist() for column in reader.get_batch(i).columns), strict=True)
