"""Shared-memory table of in-flight inputs, read by the supervisor after a crash or during a hang.

The table is a file that the runner and its supervisor both map: a header, then slots. A runner
thread that starts work takes a slot and writes its deadline and the ids of its inputs there.

This module imports the standard library only, because the supervisor does.
"""

import json
import mmap
import os
import struct
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from threading import Lock

TABLE_VARIABLE = "VISIONBATCH_INFLIGHT"  # environment variable of the runner: the file's path

# Layout. Header: progress count, the last runner's death as JSON, the name of the run. Then slots.
_SLOTS, _SLOT_BYTES, _HEADER_BYTES = 256, 8192, 1 << 16
_FILE_BYTES = _HEADER_BYTES + _SLOTS * _SLOT_BYTES
_LENGTH = struct.Struct("q")
_PROGRESS_AT, _DEATH_AT, _RUN_AT = 0, 8, _HEADER_BYTES - 512
_DEATH_BYTES = _RUN_AT - _DEATH_AT - _LENGTH.size

# Head of a slot: number of ids (0: the slot is free), start, deadline (both of time.monotonic).
_HEAD = struct.Struct("qdd")
_MAX_IDS = (_SLOT_BYTES - _HEAD.size) // 8
_MAX_REPORTED_IDS = 2000  # of a death whose JSON would not fit


@dataclass(frozen=True)
class WorkerDeath:
    """Death of the previous runner: its reason and the inputs that were in work."""

    status: str  # crashed, timeout
    reason: str
    image_ids: tuple[int, ...]
    run: str = ""  # name of the run folder whose plan the ids refer to


class InFlightTable:
    """The inputs that a runner's threads are working on. Threads may share it.

    Without a file it is private memory of this process, and no supervisor reads it.
    """

    def __init__(self, path: Path | None = None) -> None:
        if path is None:
            self._memory = mmap.mmap(-1, _FILE_BYTES)
        else:
            with path.open("r+b") as file:
                self._memory = mmap.mmap(file.fileno(), _FILE_BYTES)
        self._free = list(range(_SLOTS))
        self._lock = Lock()

    @classmethod
    def attach(cls) -> "InFlightTable":
        """Return the table of this process: its supervisor's, or a private one.

        Every call returns the same object, because the object owns the list of free slots.
        """
        return _attach_file(os.environ.get(TABLE_VARIABLE))

    @classmethod
    @contextmanager
    def create_shared(cls) -> Iterator[tuple["InFlightTable", Path]]:
        """Create a table in a temporary file; yield it with the file's path."""
        with tempfile.NamedTemporaryFile(prefix="visionbatch-") as file:
            # Reserve the space now: on a full disk the first write to mapped memory is fatal.
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, _FILE_BYTES)
            else:
                file.truncate(_FILE_BYTES)
            yield cls(Path(file.name)), Path(file.name)

    # --- called by the runner

    @contextmanager
    def track(self, image_ids: Sequence[int], seconds: float) -> Iterator[None]:
        """Record that this thread works on these inputs. After `seconds` it counts as hanging.

        Only the first thousand ids are recorded. Nothing is recorded when all slots are taken.
        """
        with self._lock:
            slot = self._free.pop() if self._free else None
        if slot is None:
            yield
            return

        start = _locate_slot(slot)
        ids = image_ids[:_MAX_IDS]
        struct.pack_into(f"{len(ids)}q", self._memory, start + _HEAD.size, *ids)
        now = time.monotonic()
        _HEAD.pack_into(self._memory, start, len(ids), now, now + seconds)
        try:
            yield
        finally:
            _HEAD.pack_into(self._memory, start, 0, 0.0, 0.0)
            with self._lock:
                self._free.append(slot)

    def count_progress(self) -> None:
        """Count one step that the next runner need not repeat."""
        _LENGTH.pack_into(self._memory, _PROGRESS_AT, self.progress + 1)

    def find_longest_running(self) -> tuple[int, float]:
        """Return the input count and the seconds of the longest-running thread, or (0, 0)."""
        now = time.monotonic()
        heads = (_HEAD.unpack_from(self._memory, _locate_slot(slot)) for slot in range(_SLOTS))
        return max(
            ((count, now - started) for count, started, _ in heads if count),
            key=lambda work: work[1],
            default=(0, 0.0),
        )

    def start_run(self, run: str) -> WorkerDeath | None:
        """Record the name of the run that the following ids refer to.

        Returns:
            How the previous runner died, if it died in this run. It is returned only once.
        """
        name = os.fsencode(run)[:500]
        padded = name.ljust(512 - _LENGTH.size, b"\0")
        self._memory[_RUN_AT : _RUN_AT + 512] = _LENGTH.pack(len(name)) + padded

        (length,) = _LENGTH.unpack_from(self._memory, _DEATH_AT)
        start = _DEATH_AT + _LENGTH.size
        death = json.loads(self._memory[start : start + length]) if length else {}
        if death.get("run") != self.run:
            return None
        _LENGTH.pack_into(self._memory, _DEATH_AT, 0)
        return WorkerDeath(
            death["status"], death["reason"], tuple(death["image_ids"]), death["run"]
        )

    # --- called by the supervisor

    @property
    def run(self) -> str:
        """Name of the run that the ids refer to."""
        (length,) = _LENGTH.unpack_from(self._memory, _RUN_AT)
        start = _RUN_AT + _LENGTH.size
        return os.fsdecode(self._memory[start : start + length])

    @property
    def progress(self) -> int:
        """Number of steps that the next runner need not repeat."""
        (count,) = _LENGTH.unpack_from(self._memory, _PROGRESS_AT)
        return int(count)

    def read_image_ids(self, overdue_at: float | None = None) -> tuple[int, ...]:
        """Return the ids of the inputs in all slots.

        Args:
            overdue_at: Return only those whose deadline was before this `time.monotonic()`.
        """
        image_ids: list[int] = []
        for slot in range(_SLOTS):
            start = _locate_slot(slot)
            count, _, deadline = _HEAD.unpack_from(self._memory, start)
            if 0 < count <= _MAX_IDS and (overdue_at is None or deadline < overdue_at):
                image_ids += struct.unpack_from(f"{count}q", self._memory, start + _HEAD.size)
        return tuple(dict.fromkeys(image_ids))

    def report_death(self, death: WorkerDeath) -> None:
        """Record the death of the runner for the next runner, and clear all slots."""
        content = json.dumps(asdict(death)).encode()
        if len(content) > _DEATH_BYTES:
            image_ids = death.image_ids[:_MAX_REPORTED_IDS]
            content = json.dumps(asdict(death) | {"image_ids": image_ids}).encode()
        self.clear()
        start = _DEATH_AT + _LENGTH.size
        self._memory[start : start + len(content)] = content
        _LENGTH.pack_into(self._memory, _DEATH_AT, len(content))

    def clear(self) -> None:
        """Mark all slots as free."""
        for slot in range(_SLOTS):
            _HEAD.pack_into(self._memory, _locate_slot(slot), 0, 0.0, 0.0)


def _locate_slot(slot: int) -> int:
    return _HEADER_BYTES + slot * _SLOT_BYTES


@cache
def _attach_file(path: str | None) -> InFlightTable:
    return InFlightTable(Path(path) if path else None)
