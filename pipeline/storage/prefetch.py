"""Whole files from far away, fetched before they are asked for: what bounds a store's answers is latency, not cores."""

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
_AHEAD_BYTES = 256 << 20  # kept of groups that nobody works at yet; the oldest group is kept whole
_OF_TIMEOUT = 0.8  # of what an input may take, decoding included: a slow store is to cost a row, not the process


@dataclass(eq=False)
class _Group:
    """Files that are begun and ended together: the images of a shard. Their bytes lie in a file without a name."""

    seconds: float
    to_come: int
    file: Any = field(default_factory=tempfile.TemporaryFile)
    size: int = 0


@dataclass(eq=False)
class _Fetch:
    entry: Entry
    group: _Group
    begun: bool = False
    where: Future[tuple[int, int]] = field(
        default_factory=Future
    )  # first byte and length, in the group's file


class Prefetcher:
    """Fetches what was announced, in order, at most 16 files at a time, each once however often it is asked for.

    Bytes wait on the local disk (TMPDIR) and not in memory, because every image of a shard is needed twice or more: its
    header before anything is decoded, its pixels, and again for its overlay.
    """

    def __init__(self, read: Callable[[str, float | None], bytes]) -> None:
        """`read(key, seconds)` gives a file's bytes, or raises what is to be raised where they are asked for."""
        self._read = read
        self._pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="fetch")
        self._lock = Lock()
        self._fetches: dict[str, _Fetch] = {}
        self._waiting: deque[_Fetch] = deque()
        self._groups: list[_Group] = []  # the oldest first
        self._active = 0

    def enqueue(self, entries: Sequence[Entry], seconds: float) -> None:
        """These will be asked for, after those before; each may take so many seconds."""
        if not entries:
            return
        group = _Group(seconds * _OF_TIMEOUT, len(entries))
        fetches = [_Fetch(entry, group) for entry in entries]
        with self._lock:
            self._groups.append(group)
            self._waiting.extend(fetches)
            self._fetches.update((fetch.entry.key, fetch) for fetch in fetches)
        self._go_on()

    def release(self, entries: Sequence[Entry]) -> None:
        """These are not needed any more."""
        with self._lock:
            groups = {
                fetch.group for entry in entries if (fetch := self._fetches.pop(entry.key, None))
            }
            left = {fetch.group for fetch in self._fetches.values()}
            for group in groups - left:
                self._groups.remove(group)
                if group.to_come == 0:
                    group.file.close()
        self._go_on()

    def fetch(self, entry: Entry) -> bytes:
        """The whole file. One that nobody has begun to fetch is fetched at once, announced or not."""
        with self._lock:
            fetch = self._fetches.get(entry.key)
            mine = fetch is not None and not fetch.begun
            if mine:
                fetch.begun = True  # type: ignore[union-attr]
        if fetch is None or fetch.entry != entry:
            return self._read(entry.key, None)
        if mine:
            self._fetch(fetch)
        start, length = fetch.where.result()
        return os.pread(fetch.group.file.fileno(), length, start)

    def close(self) -> None:
        with self._lock:
            self._waiting.clear()
        self._pool.shutdown(wait=True, cancel_futures=True)
        for group in self._groups:
            group.file.close()
        self._groups.clear()
        self._fetches.clear()

    def _go_on(self) -> None:
        """Begin as many fetches as may be."""
        with self._lock:
            while self._waiting and self._active < _AT_ONCE:
                fetch = self._waiting[0]
                if not (fetch.begun or fetch.group not in self._groups):
                    kept = sum(group.size for group in self._groups[1:])
                    if fetch.group is not self._groups[0] and kept >= _AHEAD_BYTES:
                        return
                    fetch.begun = True
                    self._active += 1
                    self._pool.submit(self._fetch_in_turn, fetch)
                self._waiting.popleft()

    def _fetch_in_turn(self, fetch: _Fetch) -> None:
        self._fetch(fetch)
        with self._lock:
            self._active -= 1
        self._go_on()

    def _fetch(self, fetch: _Fetch) -> None:
        group = fetch.group
        seconds = group.seconds if group.seconds != float("inf") else None
        try:
            data = self._read(fetch.entry.key, seconds)
            with self._lock:
                start, group.size = group.size, group.size + len(data)
            _write(group.file.fileno(), data, start)
            fetch.where.set_result((start, len(data)))
        except BaseException as error:  # noqa: BLE001 - raised where the file is asked for
            fetch.where.set_exception(error)
        with self._lock:
            group.to_come -= 1
            if group.to_come == 0 and group not in self._groups:  # ended meanwhile
                group.file.close()


def _write(descriptor: int, data: bytes, at: int) -> None:
    rest = memoryview(data)
    try:
        while rest:
            written = os.pwrite(descriptor, rest, at)
            rest, at = rest[written:], at + written
    except OSError as error:
        raise OutOfSpace(
            f"Images that wait to be decoded cannot be kept in {tempfile.gettempdir()}: {error.strerror}. TMPDIR= names "
            f"another folder."
        ) from None
