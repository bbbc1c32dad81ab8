"""Prefetch whole remote files, many at once, because latency limits how fast a store answers."""

import os
import tempfile
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

from pipeline.core.errors import OutOfSpace
from pipeline.core.types import Entry

_AT_ONCE = 16
_AHEAD_BYTES = 256 << 20  # kept for all groups but the oldest, which is kept whole
# Share of an input's timeout for fetching it; the rest is for decoding. So a slow store costs a row
# and not the process.
_TIMEOUT_SHARE = 0.8


@dataclass(eq=False)
class _Group:
    """Files that are queued together: the images of a shard. Their bytes are in an unnamed file."""

    seconds: float  # timeout of one file
    pending: int  # files that are not fetched yet
    file: Any = field(default_factory=tempfile.TemporaryFile)
    size: int = 0  # bytes


@dataclass(eq=False)
class _Fetch:
    """One file to fetch."""

    entry: Entry
    group: _Group
    is_started: bool = False
    # Start and length of the bytes in `group.file`.
    byte_range: Future[tuple[int, int]] = field(default_factory=Future)


class Prefetcher:
    """Fetches queued files in order, at most 16 at a time, each once. Threads may share it.

    Fetched bytes wait on the local disk (TMPDIR), because every image of a shard is needed several
    times: for its header, for its pixels and for its overlay.
    """

    def __init__(self, read: Callable[[str, float | None], bytes]) -> None:
        """Start with an empty queue.

        Args:
            read: (key, timeout in seconds) -> the bytes of a file. `fetch` raises its errors.
        """
        self._read = read
        self._pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="fetch")
        self._lock = Lock()
        self._fetches: dict[str, _Fetch] = {}  # by key
        self._queue: deque[_Fetch] = deque()
        self._groups: list[_Group] = []  # the oldest first
        self._active = 0  # fetches in the pool

    def enqueue(self, entries: Sequence[Entry], seconds: float) -> None:
        """Queue files behind those that are queued already.

        Args:
            entries: The files, as one group.
            seconds: Timeout of one input, including its decoding.
        """
        if not entries:
            return
        group = _Group(seconds * _TIMEOUT_SHARE, len(entries))
        fetches = [_Fetch(entry, group) for entry in entries]
        with self._lock:
            self._groups.append(group)
            self._queue.extend(fetches)
            self._fetches.update((fetch.entry.key, fetch) for fetch in fetches)
        self._start_fetches()

    def release(self, entries: Sequence[Entry]) -> None:
        """Free files that are no longer needed. A group's bytes are freed with its last file."""
        with self._lock:
            groups = {
                fetch.group for entry in entries if (fetch := self._fetches.pop(entry.key, None))
            }
            remaining = {fetch.group for fetch in self._fetches.values()}
            for group in groups - remaining:
                self._groups.remove(group)
                if group.pending == 0:
                    group.file.close()
        self._start_fetches()

    def fetch(self, entry: Entry) -> bytes:
        """Return a whole file. If it is not being fetched yet, this thread fetches it at once."""
        with self._lock:
            fetch = self._fetches.get(entry.key)
            is_mine = fetch is not None and not fetch.is_started
            if fetch is not None:
                fetch.is_started = True
        if fetch is None or fetch.entry != entry:
            return self._read(entry.key, None)
        if is_mine:
            self._run(fetch)
        start, length = fetch.byte_range.result()
        return os.pread(fetch.group.file.fileno(), length, start)

    def close(self) -> None:
        """Stop all fetches and free all files."""
        with self._lock:
            self._queue.clear()
        self._pool.shutdown(wait=True, cancel_futures=True)
        for group in self._groups:
            group.file.close()
        self._groups.clear()
        self._fetches.clear()

    def _start_fetches(self) -> None:
        """Start as many queued fetches as the limits allow."""
        with self._lock:
            while self._queue and self._active < _AT_ONCE:
                fetch = self._queue[0]
                if not fetch.is_started and fetch.group in self._groups:
                    ahead_bytes = sum(group.size for group in self._groups[1:])
                    if fetch.group is not self._groups[0] and ahead_bytes >= _AHEAD_BYTES:
                        return
                    fetch.is_started = True
                    self._active += 1
                    self._pool.submit(self._run_in_pool, fetch)
                self._queue.popleft()

    def _run_in_pool(self, fetch: _Fetch) -> None:
        self._run(fetch)
        with self._lock:
            self._active -= 1
        self._start_fetches()

    def _run(self, fetch: _Fetch) -> None:
        group = fetch.group
        seconds = group.seconds if group.seconds != float("inf") else None
        try:
            data = self._read(fetch.entry.key, seconds)
            with self._lock:
                start, group.size = group.size, group.size + len(data)
            _write(group.file.fileno(), data, start)
            fetch.byte_range.set_result((start, len(data)))
        except BaseException as error:  # noqa: BLE001 - `fetch` raises it
            fetch.byte_range.set_exception(error)
        with self._lock:
            group.pending -= 1
            is_released = group not in self._groups
            if group.pending == 0 and is_released:
                group.file.close()


def _write(descriptor: int, data: bytes, position: int) -> None:
    rest = memoryview(data)
    try:
        while rest:
            written = os.pwrite(descriptor, rest, position)
            rest, position = rest[written:], position + written
    except OSError as error:
        raise OutOfSpace(
            f"Images that wait to be decoded cannot be kept in {tempfile.gettempdir()}: "
            f"{error.strerror}. TMPDIR= names another folder."
        ) from None
