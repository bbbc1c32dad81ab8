"""Seconds per stage of a run, summed over threads."""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from threading import Lock
from time import perf_counter
from typing import Any, TypeVar

T = TypeVar("T")
STAGES = (
    "read",
    "decode",
    "transform",
    "copy",
    "wait",
    "forward",
    "behind",
    "rows",
    "write",
    "draw",
)


def read_timings(file: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines of a run's timing.jsonl, one per shard.

    Yields nothing where the file is missing. Skips lines that a kill has cut short.
    """
    lines = (
        file.read_text(encoding="utf-8", errors="replace").splitlines() if file.is_file() else []
    )
    for line in lines:
        try:
            timing = json.loads(line)
        except ValueError:
            continue
        if isinstance(timing, dict):
            yield timing


class StageTimer:
    """Thread-safe stopwatch with one sum of seconds per stage.

    Loader threads add to `read`, `decode`, `transform` and `copy` (to the device). The writer
    thread adds to `rows`, `write` and `draw`. The thread of the forward pass adds to `forward`, to
    `wait` (for the loader) and to `behind` (for the writer). Stages overlap in time, so their sum
    can exceed the elapsed time.
    """

    def __init__(self) -> None:
        self._seconds = dict.fromkeys(STAGES, 0.0)
        self._seconds_at_lap = dict(self._seconds)
        self._lap_start = perf_counter()
        self._lock = Lock()

    @contextmanager
    def measure(self, name: str) -> Iterator[None]:
        """Add the time spent inside the `with` block to a stage."""
        start = perf_counter()
        try:
            yield
        finally:
            spent = perf_counter() - start
            with self._lock:
                self._seconds[name] += spent

    def time_iteration(self, name: str, values: Iterable[T]) -> Iterator[T]:
        """Yield the values, and add the time until each one arrives to a stage."""
        iterator = iter(values)
        while True:
            with self.measure(name):
                received = list(islice(iterator, 1))
            if not received:
                return
            yield received.pop()  # keep no reference: the caller decides when it is freed

    def take_lap(self) -> dict[str, float]:
        """Return the seconds per stage since the last call, and the elapsed time as `seconds`."""
        with self._lock:
            now = perf_counter()
            lap = {
                name: round(total - self._seconds_at_lap[name], 3)
                for name, total in self._seconds.items()
            }
            lap["seconds"] = round(now - self._lap_start, 3)
            self._seconds_at_lap, self._lap_start = dict(self._seconds), now
        return lap

    def total_seconds(self) -> dict[str, float]:
        """Return the seconds per stage since the timer was made."""
        with self._lock:
            return {name: round(total, 3) for name, total in self._seconds.items()}
