"""What a run's threads have in hand, in memory that outlives the process: who watches it (`supervise.py`) reads there, after
a crash or while it hangs, at which inputs the runner was.

A file mapped by both: a header, then slots. A thread that begins something takes a slot and writes when it must be done, and
the ids of its inputs.
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

TABLE_VARIABLE = "VISIONBATCH_BOARD"  # the file's path, in the runner's environment
_SLOTS, _SLOT_BYTES, _HEADER_BYTES = 256, 8192, 1 << 16
_HEAD = struct.Struct(
    "qdd"
)  # number of ids (0: the slot is free), when it began, when it must be done (time.monotonic)
_MOST_IDS = (_SLOT_BYTES - _HEAD.size) // 8
_LENGTH = struct.Struct("q")
_PROGRESS_AT, _DEATH_AT, _RUN_AT = 0, 8, _HEADER_BYTES - 512


@dataclass(frozen=True)
class WorkerDeath:
    """How the runner before this one ended, and what it had in hand."""

    status: str  # crashed, timeout
    reason: str
    image_ids: tuple[int, ...]
    run: str = ""  # the run folder's name: the ids are of its plan


class InFlightTable:
    """Without a file it is memory of this process alone, and nobody watches."""

    def __init__(self, path: Path | None = None) -> None:
        size = _HEADER_BYTES + _SLOTS * _SLOT_BYTES
        if path is None:
            self._memory = mmap.mmap(-1, size)
        else:
            with path.open("r+b") as file:
                self._memory = mmap.mmap(file.fileno(), size)
        self._free = list(range(_SLOTS))
        self._lock = Lock()

    @classmethod
    def attach(cls) -> "InFlightTable":
        """The one that this process was given, or one of its own; always the same, because its slots are."""
        return _of(os.environ.get(TABLE_VARIABLE))

    @classmethod
    @contextmanager
    def create_shared(cls) -> Iterator[tuple["InFlightTable", Path]]:
        with tempfile.NamedTemporaryFile(prefix="visionbatch-") as file:
            size = _HEADER_BYTES + _SLOTS * _SLOT_BYTES
            if hasattr(
                os, "posix_fallocate"
            ):  # room now: a full disk would else kill whoever writes first
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                file.truncate(size)
            yield cls(Path(file.name)), Path(file.name)

    # --- the runner's side

    @contextmanager
    def track(self, image_ids: Sequence[int], seconds: float) -> Iterator[None]:
        """This thread has these inputs in hand, of which it is done in so many seconds, or hangs. Beyond a thousand they are
        not all written; nor are those of a thread for which no slot is left."""
        with self._lock:
            slot = self._free.pop() if self._free else None
        if slot is None:
            yield
            return
        where = _HEADER_BYTES + slot * _SLOT_BYTES
        ids = image_ids[:_MOST_IDS]
        struct.pack_into(f"{len(ids)}q", self._memory, where + _HEAD.size, *ids)
        now = time.monotonic()
        _HEAD.pack_into(self._memory, where, len(ids), now, now + seconds)
        try:
            yield
        finally:
            _HEAD.pack_into(self._memory, where, 0, 0.0, 0.0)
            with self._lock:
                self._free.append(slot)

    def count_progress(self) -> None:
        """Something was reached that the next runner need not do again."""
        _LENGTH.pack_into(self._memory, _PROGRESS_AT, self.progress + 1)

    def find_longest_running(self) -> tuple[int, float]:
        """(inputs in hand, for how many seconds) of the thread that has been at its own for the longest; (0, 0) for none."""
        now = time.monotonic()
        heads = (
            _HEAD.unpack_from(self._memory, _HEADER_BYTES + slot * _SLOT_BYTES)
            for slot in range(_SLOTS)
        )
        return max(
            ((count, now - began) for count, began, _ in heads if count),
            key=lambda one: one[1],
            default=(0, 0.0),
        )

    def start_run(self, run: str) -> WorkerDeath | None:
        """What follows is of this run. How the runner before died, if that was at this run: told once."""
        name = os.fsencode(run)[:500]
        self._memory[_RUN_AT : _RUN_AT + 512] = _LENGTH.pack(len(name)) + name.ljust(
            512 - _LENGTH.size, b"\0"
        )
        (length,) = _LENGTH.unpack_from(self._memory, _DEATH_AT)
        start = _DEATH_AT + _LENGTH.size
        said = json.loads(self._memory[start : start + length]) if length else {}
        if said.get("run") != self.run:
            return None
        _LENGTH.pack_into(self._memory, _DEATH_AT, 0)
        return WorkerDeath(said["status"], said["reason"], tuple(said["image_ids"]), said["run"])

    # --- the watcher's side

    @property
    def run(self) -> str:
        (length,) = _LENGTH.unpack_from(self._memory, _RUN_AT)
        start = _RUN_AT + _LENGTH.size
        return os.fsdecode(self._memory[start : start + length])

    @property
    def progress(self) -> int:
        (counted,) = _LENGTH.unpack_from(self._memory, _PROGRESS_AT)
        return int(counted)

    def read_image_ids(self, overdue_at: float | None = None) -> tuple[int, ...]:
        """The ids in all slots, or in those that were to be done before that time."""
        found: list[int] = []
        for slot in range(_SLOTS):
            where = _HEADER_BYTES + slot * _SLOT_BYTES
            count, _, until = _HEAD.unpack_from(self._memory, where)
            if 0 < count <= _MOST_IDS and (overdue_at is None or until < overdue_at):
                found += struct.unpack_from(f"{count}q", self._memory, where + _HEAD.size)
        return tuple(dict.fromkeys(found))

    def report_death(self, death: WorkerDeath) -> None:
        """For the next runner; what the dead one had in hand is forgotten."""
        said = json.dumps(asdict(death)).encode()
        if len(said) > _RUN_AT - _DEATH_AT - _LENGTH.size:
            said = json.dumps(asdict(death) | {"image_ids": death.image_ids[:2000]}).encode()
        self.clear()
        start = _DEATH_AT + _LENGTH.size
        self._memory[start : start + len(said)] = said
        _LENGTH.pack_into(self._memory, _DEATH_AT, len(said))

    def clear(self) -> None:
        for slot in range(_SLOTS):
            _HEAD.pack_into(self._memory, _HEADER_BYTES + slot * _SLOT_BYTES, 0, 0.0, 0.0)


@cache
def _of(path: str | None) -> InFlightTable:
    return InFlightTable(Path(path) if path else None)
