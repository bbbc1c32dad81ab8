"""Measure the memory of this machine, and admit work to a limited number of bytes.

This module imports no torch, so that settings can be checked without it.
"""

import math
import os
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Condition

_CONTROL_GROUPS = Path("/sys/fs/cgroup")
_OWN_GROUPS = Path("/proc/self/cgroup")
_UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_BINARY_UNITS = {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}


def parse_bytes(text: str) -> int:
    """Return the bytes of a size such as `512MB`, `1.5 GB`, `2GiB` or `1000000`.

    Raises:
        ValueError: The text is not a size, or less than one byte.
    """
    compact = "".join(text.split()).upper()
    number = compact.rstrip("BIKMGT")
    unit = compact[len(number) :] or "B"
    units = _UNITS | _BINARY_UNITS | {name[0]: size for name, size in _UNITS.items()}
    if unit not in units or not number or not set(number) <= set("0123456789."):
        raise ValueError(text)
    n_bytes = int(float(number) * units[unit])
    if n_bytes < 1:
        raise ValueError(text)
    return n_bytes


def format_bytes(n_bytes: float) -> str:
    """Return a size for a message: 512 MB, 1.5 GB."""
    unit = next((name for name in ("TB", "GB", "MB", "KB") if n_bytes >= _UNITS[name]), "B")
    return f"{n_bytes / _UNITS[unit]:.3g} {unit}"


def measure_available_memory(
    groups: Path = _CONTROL_GROUPS, own_groups: Path = _OWN_GROUPS
) -> float:
    """Return the bytes that this process may use: the machine's, or less in a control group.

    Limits of all control groups around this process count, of version 1 and 2.
    """
    try:
        machine = float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, ValueError, OSError):  # not known on this system
        machine = 8e9
    return min([machine, *_read_group_limits(groups, own_groups)])


def _read_group_limits(groups: Path, own_groups: Path) -> Iterator[float]:
    """Yield the memory limits of this process's control group and of all groups around it."""
    # Inside a container the path of the own group may not exist; the root then has the limit.
    paths = {("", "/"), ("memory", "/")}
    try:
        lines = own_groups.read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            paths.add(("", path))
        elif "memory" in controllers.split(","):
            paths.add(("memory", path))

    for controller, path in sorted(paths):
        name = "memory.limit_in_bytes" if controller else "memory.max"
        inner = Path(path.lstrip("/"))
        for part in (inner, *inner.parents):
            try:
                yield _parse_limit((groups / controller / part / name).read_text())
            except (OSError, ValueError):
                continue


def _parse_limit(text: str) -> float:
    return math.inf if text.strip() == "max" else float(int(text))


class ByteSemaphore:
    """Admits work to a number of bytes, in the order of asking.

    Work that needs more than all bytes is admitted alone. A thread must not ask again while it is
    admitted; then no thread waits for ever.
    """

    def __init__(self, n_bytes: float = math.inf) -> None:
        self.n_bytes = n_bytes
        self._used = 0.0
        self._waiting: deque[object] = deque()
        self._changed = Condition()

    @contextmanager
    def admit(self, n_bytes: float) -> Iterator[None]:
        """Wait until this many bytes are free, and use them inside the `with` block."""
        needed = min(n_bytes, self.n_bytes)
        ticket = object()
        with self._changed:
            self._waiting.append(ticket)
            try:
                self._changed.wait_for(
                    lambda: (
                        self._waiting[0] is ticket
                        and (self._used + needed <= self.n_bytes or not self._used)
                    )
                )
                self._used += needed
            finally:
                self._waiting.remove(ticket)
                self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._used -= needed
                self._changed.notify_all()
