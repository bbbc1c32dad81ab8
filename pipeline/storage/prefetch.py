"""Prefetch whole remote files, many at once, because latency limits how fast a store answers."""

import math
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
# A group takes up further files until it has this many, so that queueing single files does not
# need an open file for each.
_LEAST_FILES = 16
# Share of an input's timeout for fetching it; the rest is for decoding. So a slow store costs a row
# and not the process.
_TIMEOUT_SHARE = 0.8

FileId = tuple[str, int | None, int | None]  # key, bytes, time of change


@dataclass(eq=False)
class _Group:
    """Files that are kept and freed together: the images of a shard, or of several small ones."""

    n_files: int = 0
    n_held: int = 0  # files that are not released yet
    n_running: int = 0  # fetches that write to `file` now
    file: Any = field(default_factory=tempfile.TemporaryFile)  # has no name
    size: int = 0  # bytes


@dataclass(eq=False)
class _Fetch:
    """One file to fetch."""

    key: str
    group: _Group
    seconds: float | None  # timeout
    n_holders: int = 0  # calls of `enqueue` without their `release`, and reads that are under way
    is_started: bool = False
    # Start and length of the bytes in `group.file`.
    byte_range: Future[tuple[int, int]] = field(default_factory=Future)


class Prefetcher:
    """Fetches queued files in order, at most 16 at a time, each once. Threads may share it.

    Fetched bytes wait on the local disk (TMPDIR), because every image of a shard is needed several
    times: for its header, for its pixels and for its overlay. Whoever calls `enqueue` must call
    `release` with the same entries, or the bytes stay until `close`.
    """

    def __init__(self, read: Callable[[str, float | None], bytes]) -> None:
        """Start with an empty queue.

        Args:
            read: (key, timeout in seconds) -> the bytes of a file. `fetch` raises its errors.
        """
        self._read = read
        self._pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="fetch")
        self._lock = Lock()
        self._fetches: dict[FileId, _Fetch] = {}
        self._queue: deque[_Fetch] = deque()
        self._groups: list[_Group] = []  # the oldest first
        self._active = 0  # fetches in the pool

    def enqueue(self, entries: Sequence[Entry], seconds: float) -> None:
        """Queue files behind those that are queued already. A file that is queued is not repeated.

        Args:
            entries: The files.
            seconds: Timeout of one input, including its decoding.
        """
        timeout = None if math.isinf(seconds) else seconds * _TIMEOUT_SHARE
        with self._lock:
            new = {identify(entry) for entry in entries} - self._fetches.keys()
            group = self._choose_group() if new else None
            for entry in entries:
                fetch = self._fetches.get(identify(entry))
                if fetch is None and group is not None:
                    fetch = self._fetches[identify(entry)] = _Fetch(entry.key, group, timeout)
                    self._queue.append(fetch)
                    group.n_files += 1
                    group.n_held += 1
                if fetch is not None:
                    fetch.n_holders += 1
        self._start_fetches()

    def release(self, entries: Sequence[Entry]) -> None:
        """End one `enqueue` of these files. A group's bytes are freed with its last file."""
        with self._lock:
            for entry in entries:
                if fetch := self._fetches.get(identify(entry)):
                    self._drop_holder(fetch, identify(entry))
        self._start_fetches()

    def fetch(self, entry: Entry) -> bytes:
        """Return a whole file. If it is not being fetched yet, this thread fetches it at once."""
        with self._lock:
            fetch = self._fetches.get(identify(entry))
            if fetch is not None:
                fetch.n_holders += 1
                if must_run := not fetch.is_started:
                    self._mark_started(fetch)
        if fetch is None:
            return self._read(entry.key, None)

        try:
            if must_run:
                self._run(fetch)
            start, length = fetch.byte_range.result()
            return os.pread(fetch.group.file.fileno(), length, start)
        finally:
            with self._lock:
                self._drop_holder(fetch, identify(entry))

    def close(self) -> None:
        """Stop all fetches and free all files."""
        with self._lock:
            self._queue.clear()
        self._pool.shutdown(wait=True, cancel_futures=True)
        for group in self._groups:
            group.file.close()
        self._groups.clear()
        self._fetches.clear()

    def _choose_group(self) -> _Group:
        """Return the newest group if it has few files, else a new one."""
        if not self._groups or self._groups[-1].n_files >= _LEAST_FILES:
            self._groups.append(_Group())
        return self._groups[-1]

    def _drop_holder(self, fetch: _Fetch, file_id: FileId) -> None:
        """Count one holder less. Forget a file without holders, and then an unused group."""
        fetch.n_holders -= 1
        if fetch.n_holders == 0 and file_id in self._fetches:  # not after `close`
            del self._fetches[file_id]
            fetch.group.n_held -= 1
            self._free_if_unused(fetch.group)

    def _free_if_unused(self, group: _Group) -> None:
        if group.n_held == 0 and group in self._groups:
            self._groups.remove(group)
        if group.n_held == 0 and group.n_running == 0:
            group.file.close()

    def _start_fetches(self) -> None:
        """Start as many queued fetches as the limits allow."""
        with self._lock:
            while self._queue and self._active < _AT_ONCE:
                fetch = self._queue[0]
                if not fetch.is_started and fetch.n_holders:
                    ahead_bytes = sum(group.size for group in self._groups[1:])
                    if fetch.group is not self._groups[0] and ahead_bytes >= _AHEAD_BYTES:
                        return
                    self._mark_started(fetch)
                    self._active += 1
                    self._pool.submit(self._run_in_pool, fetch)
                self._queue.popleft()

    def _mark_started(self, fetch: _Fetch) -> None:
        fetch.is_started = True
        fetch.group.n_running += 1

    def _run_in_pool(self, fetch: _Fetch) -> None:
        self._run(fetch)
        with self._lock:
            self._active -= 1
        self._start_fetches()

    def _run(self, fetch: _Fetch) -> None:
        group = fetch.group
        try:
            data = self._read(fetch.key, fetch.seconds)
            with self._lock:
                start, group.size = group.size, group.size + len(data)
            _write(group.file.fileno(), data, start)
            fetch.byte_range.set_result((start, len(data)))
        except BaseException as error:  # noqa: BLE001 - `fetch` raises it
            fetch.byte_range.set_exception(error)
        with self._lock:
            group.n_running -= 1
            self._free_if_unused(group)


def identify(entry: Entry) -> FileId:
    """Return what tells two versions of a file apart."""
    return entry.key, entry.size, entry.mtime_ns


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
