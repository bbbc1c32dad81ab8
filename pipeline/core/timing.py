"""Measure the seconds that each stage of a run takes, summed over threads."""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
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
    """Yield the timings of each shard from a run's timing.jsonl.

    A missing file has none. A line that was cut short by a kill is skipped.
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
    """A sum of seconds for each of `STAGES`. Threads may share it.

    `read`, `decode`, `transform` and `copy` (to a device) run in threads ahead of the forward pass.
    `rows`, `write` and `draw` run in threads behind it. `wait` is the time that the forward pass
    waited for the threads ahead, `behind` the time it waited for the threads behind. Stages
    overlap, so their sum can exceed the elapsed time.
    """

    def __init__(self) -> None:
        self._seconds = dict.fromkeys(STAGES, 0.0)
        self._last_seconds = dict(self._seconds)
        self._last_time = perf_counter()
        self._lock = Lock()

    @contextmanager
    def measure(self, name: str) -> Iterator[None]:
        """Add the time spent inside this context to a stage."""
        start = perf_counter()
        try:
            yield
        finally:
            spent = perf_counter() - start
            with self._lock:
                self._seconds[name] += spent

    def time_iteration(self, name: str, values: Iterable[T]) -> Iterator[T]:
        """Iterate over values, and add the time until each value arrives to a stage."""
        iterator = iter(values)
        while True:
            with self.measure(name):
                try:
                    value = next(iterator)
                except StopIteration:
                    return
            yield value

    def take_lap(self) -> dict[str, float]:
        """Return the seconds per stage since the last call, and the elapsed time as `seconds`."""
        with self._lock:
            now = perf_counter()
            spent = {
                name: round(value - self._last_seconds[name], 3)
                for name, value in self._seconds.items()
            }
            spent["seconds"] = round(now - self._last_time, 3)
            self._last_seconds, self._last_time = dict(self._seconds), now
        return spent

    def total_seconds(self) -> dict[str, float]:
        """Return the seconds per stage since the timer was made."""
        with self._lock:
            return {name: round(value, 3) for name, value in self._seconds.items()}
