"""Cache the row groups of Parquet files for several threads."""

from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from threading import Lock

import pyarrow as pa

# Limit of the cache. It is useful because a shard's images are read twice: first their headers,
# then their pixels.
_MAX_CACHED_BYTES = 256 << 20


@dataclass(frozen=True)
class RowGroupId:
    """Identifies a row group of one version of a Parquet file, the version in the plan."""

    file: str  # key of the Parquet file
    mtime_ns: int
    number: int


class RowGroupCache:
    """Keeps the most recently used row groups.

    Each row group is read by one thread. Other threads that need it wait for that thread.
    """

    def __init__(self, read: Callable[[RowGroupId], pa.ChunkedArray]) -> None:
        self._read = read
        self._lock = Lock()
        self._groups: OrderedDict[RowGroupId, Future[pa.ChunkedArray]] = OrderedDict()

    def get(self, group: RowGroupId) -> pa.ChunkedArray:
        """Return the images of a row group, from the cache or by reading them.

        Raises the same errors as the function that reads.
        """
        with self._lock:
            is_cached = group in self._groups
            future = self._groups.setdefault(group, Future())
            self._groups.move_to_end(group)
        if is_cached:
            return future.result()

        try:
            future.set_result(self._read(group))
        except BaseException as error:
            # Threads that are waiting get this error, too. Later calls read the group again.
            with self._lock:
                self._groups.pop(group, None)
            future.set_exception(error)
            raise
        self._drop_surplus()
        return future.result()

    def _drop_surplus(self) -> None:
        """Drop the least recently used groups until the rest fits into the limit.

        The most recently used group is always kept.
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
