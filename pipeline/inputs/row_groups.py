"""A cache of row groups of Parquet files that several threads share."""

from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from threading import Lock

import pyarrow as pa

# bytes that are kept, because a shard's images are read twice: first headers, then pixels
_MAX_CACHED_BYTES = 256 << 20


@dataclass(frozen=True)
class RowGroupId:
    """A row group of a Parquet file, as the file was when it was planned."""

    file: str  # key
    mtime_ns: int
    number: int


class RowGroupCache:
    """Keeps the row groups that were used last.

    Each row group is read by one thread. Other threads that need it wait for that one.
    """

    def __init__(self, read: Callable[[RowGroupId], pa.ChunkedArray]) -> None:
        self._read = read
        self._lock = Lock()
        self._groups: OrderedDict[RowGroupId, Future[pa.ChunkedArray]] = OrderedDict()

    def get(self, group: RowGroupId) -> pa.ChunkedArray:
        """Return the images of a row group. Raises what reading it raises."""
        with self._lock:
            is_cached = group in self._groups
            future = self._groups.setdefault(group, Future())
            self._groups.move_to_end(group)
        if is_cached:
            return future.result()

        try:
            future.set_result(self._read(group))
        except BaseException as error:
            # threads that wait get the error too; a thread that comes later reads again
            with self._lock:
                self._groups.pop(group, None)
            future.set_exception(error)
            raise
        self._drop_surplus()
        return future.result()

    def _drop_surplus(self) -> None:
        """Drop groups until the rest fits, beginning with the one not used for the longest.

        Keep the last one.
        """
        with self._lock:
            n_bytes = sum(
                future.result().nbytes for future in self._groups.values() if future.done()
            )
            for group in list(self._groups)[:-1]:
                if n_bytes <= _MAX_CACHED_BYTES:
                    return
                if self._groups[group].done():
                    n_bytes -= self._groups.pop(group).result().nbytes
