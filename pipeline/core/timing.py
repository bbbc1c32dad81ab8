"""Seconds per stage, summed over threads."""

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
    """What a run's timing.jsonl says of each shard; nothing where there is none. A line cut short by a kill is left out."""
    lines = (
        file.read_text(encoding="utf-8", errors="replace").splitlines() if file.is_file() else []
    )
    for line in lines:
        try:
            one = json.loads(line)
        except ValueError:
            continue
        if isinstance(one, dict):
            yield one


class StageTimer:
    """`read`, `decode`, `transform` and `copy` (to a device) run in threads ahead of the forward pass; `rows`, `write` and
    `draw` behind it. `wait` is what the forward pass waited for the former, `behind` for the latter. Their sum can therefore
    exceed the time on the clock."""

    def __init__(self) -> None:
        self._seconds = dict.fromkeys(STAGES, 0.0)
        self._told = dict(self._seconds)
        self._told_at = perf_counter()
        self._lock = Lock()

    @contextmanager
    def measure(self, name: str) -> Iterator[None]:
        start = perf_counter()
        try:
            yield
        finally:
            spent = perf_counter() - start
            with self._lock:
                self._seconds[name] += spent

    def time_iteration(self, name: str, values: Iterable[T]) -> Iterator[T]:
        """Iterate, counting the time until each value comes."""
        iterator = iter(values)
        while True:
            with self.measure(name):
                try:
                    value = next(iterator)
                except StopIteration:
                    return
            yield value

    def take_lap(self) -> dict[str, float]:
        """Seconds per stage since the last call, and `seconds` on the clock."""
        with self._lock:
            now = perf_counter()
            spent = {
                name: round(value - self._told[name], 3) for name, value in self._seconds.items()
            }
            spent["seconds"] = round(now - self._told_at, 3)
            self._told, self._told_at = dict(self._seconds), now
        return spent

    def total_seconds(self) -> dict[str, float]:
        with self._lock:
            return {name: round(value, 3) for name, value in self._seconds.items()}
