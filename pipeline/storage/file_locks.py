"""Who may write to a run folder: locks on files, which the system lets go of however their holders end.

`.lock`            exclusively held by who writes the run alone, shared by those who write a part of it each
`.locks/<writer>`  held by that writer: there is one of each name, and the others see who is there
`.locks/together`  held by one of them for a moment, for what all of them share: the plan, run.json, the report
"""

import fcntl
import logging
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TextIO

from pipeline.core.errors import RunLocked
from pipeline.core.types import Writer

log = logging.getLogger(__name__)
_TOGETHER = "together"
_TICK_S = 0.1
_LONG_S = 5.0


@contextmanager
def lock_folder(folder: Path, writer: Writer, begin: Callable[[bool], None]) -> Iterator[None]:
    """Be this writer of the folder. `begin` is called while no other writer can come or plan, with whether there is none.
    Raises RunLocked, which names who is there."""
    with (folder / ".lock").open("a+") as lock:
        if not _taken(lock.fileno(), fcntl.LOCK_SH if writer.name else fcntl.LOCK_EX):
            parts = "" if writer.name else "; ".join(_present(folder).values())
            raise _refused(folder, parts or _told(folder / ".lock"))
        if not writer.name:
            _sign(lock)
            begin(True)
            yield
            return
        (folder / ".locks").mkdir(exist_ok=True)
        with (folder / ".locks" / writer.name).open("a+") as own:
            with critical_section(folder):
                begin(not _admitted(folder, writer, own.fileno()))
                _sign(own, writer.name)
            yield


@contextmanager
def critical_section(folder: Path) -> Iterator[None]:
    """One at a time of the writers who are there. Waits for the one before, however long it plans."""
    path = folder / ".locks" / _TOGETHER
    with path.open("a+") as lock:
        said_at = time.monotonic() + _LONG_S
        while not _taken(lock.fileno(), fcntl.LOCK_EX):
            if time.monotonic() > said_at:
                log.info(
                    "Waiting for another writer of %s, which plans it or reports on it (%s).",
                    folder,
                    _told(path),
                )
                said_at = float("inf")
            time.sleep(_TICK_S)
        _sign(lock)
        yield


def _admitted(folder: Path, writer: Writer, own: int) -> dict[str, str]:
    """The other writers, when all of them are such as this one may write beside, and it has its own lock. Raises RunLocked
    when its patience is over."""
    until = time.monotonic() + writer.patience_s
    waited = False
    while True:
        others = _present(folder, but=writer.name)
        strangers = [
            who for name, who in others.items() if not fnmatchcase(name, writer.allowed_peers)
        ]
        if not strangers and _taken(own, fcntl.LOCK_EX):
            return others
        found = "; ".join(strangers) or _told(folder / ".locks" / writer.name)
        if time.monotonic() >= until:
            raise _refused(folder, found)
        if not waited:
            log.info("Waiting for what still writes to %s (%s).", folder, found)
        waited = True
        time.sleep(_TICK_S)


def _present(folder: Path, but: str = "") -> dict[str, str]:
    """Name -> who that is, of the writers of parts of the run that are there now."""
    found = {}
    for path in sorted((folder / ".locks").glob("*")):
        if path.name not in (_TOGETHER, but):
            with path.open() as lock:
                if not _taken(lock.fileno(), fcntl.LOCK_SH):
                    found[path.name] = _told(path)
    return found


def _taken(descriptor: int, how: int) -> bool:
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _sign(lock: TextIO, name: str = "") -> None:
    """By the descriptor that holds the lock: on NFS closing another one might let go of it."""
    lock.truncate(0)
    lock.write(f"{name}{': ' if name else ''}process {os.getpid()} on {socket.gethostname()}\n")
    lock.flush()


def _told(path: Path) -> str:
    return path.read_text().strip() or "unknown"


def _refused(folder: Path, who: str) -> RunLocked:
    return RunLocked(f"{folder} is being written by another run ({who}). Wait for it, or stop it.")
