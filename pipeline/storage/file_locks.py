"""Lock a run folder on a file system. The system releases the locks however a process ends.

`.lock`            held exclusively by the only writer, or shared by each of several writers
`.locks/<writer>`  held by the writer of that name, so that each name is unique and is visible
`.locks/together`  held by one writer for a moment, for files that all writers share: the plan,
                   run.json, the report
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
_TICK_S = 0.1  # between two tries to lock
_LOG_AFTER_S = 5.0


@contextmanager
def lock_folder(folder: Path, writer: Writer, begin: Callable[[bool], None]) -> Iterator[None]:
    """Hold a run folder as its writer while the context lasts.

    Args:
        folder: The run folder, which must exist.
        writer: The writer that this process is.
        begin: Called with True if there is no other writer. During the call no other writer can
            start, and none is in the critical section.

    Raises:
        RunLocked: Another writer holds the folder; the message names it.
    """
    with (folder / ".lock").open("a+") as lock:
        if not _try_lock(lock.fileno(), fcntl.LOCK_SH if writer.name else fcntl.LOCK_EX):
            writers = "" if writer.name else "; ".join(_find_writers(folder).values())
            raise _make_locked_error(folder, writers or _read_holder(folder / ".lock"))

        if not writer.name:
            _write_holder(lock)
            begin(True)
            yield
            return

        (folder / ".locks").mkdir(exist_ok=True)
        with (folder / ".locks" / writer.name).open("a+") as own_lock:
            with critical_section(folder):
                begin(not _wait_for_admission(folder, writer, own_lock.fileno()))
                _write_holder(own_lock, writer.name)
            yield


@contextmanager
def critical_section(folder: Path) -> Iterator[None]:
    """Exclude the other writers of a folder. Waits for as long as another one is inside."""
    path = folder / ".locks" / _TOGETHER
    with path.open("a+") as lock:
        log_at = time.monotonic() + _LOG_AFTER_S
        while not _try_lock(lock.fileno(), fcntl.LOCK_EX):
            if time.monotonic() > log_at:
                log.info(
                    "Waiting for another writer of %s, which plans it or reports on it (%s).",
                    folder,
                    _read_holder(path),
                )
                log_at = float("inf")
            time.sleep(_TICK_S)
        _write_holder(lock)
        yield


def _wait_for_admission(folder: Path, writer: Writer, own_lock: int) -> dict[str, str]:
    """Wait until only allowed peers write to the folder, and take the writer's own lock.

    Args:
        folder: The run folder.
        writer: The writer that this process is.
        own_lock: Descriptor of the writer's lock file.

    Returns:
        The other writers: name -> process.

    Raises:
        RunLocked: The writer has waited for `patience_s` seconds.
    """
    deadline = time.monotonic() + writer.patience_s
    is_logged = False
    while True:
        others = _find_writers(folder, except_for=writer.name)
        strangers = [
            process
            for name, process in others.items()
            if not fnmatchcase(name, writer.allowed_peers)
        ]
        if not strangers and _try_lock(own_lock, fcntl.LOCK_EX):
            return others

        holders = "; ".join(strangers) or _read_holder(folder / ".locks" / writer.name)
        if time.monotonic() >= deadline:
            raise _make_locked_error(folder, holders)
        if not is_logged:
            log.info("Waiting for the processes that still write to %s (%s).", folder, holders)
        is_logged = True
        time.sleep(_TICK_S)


def _find_writers(folder: Path, except_for: str = "") -> dict[str, str]:
    """Return name -> process of the named writers that hold their lock now."""
    writers = {}
    for path in sorted((folder / ".locks").glob("*")):
        if path.name not in (_TOGETHER, except_for):
            with path.open() as lock:
                if not _try_lock(lock.fileno(), fcntl.LOCK_SH):
                    writers[path.name] = _read_holder(path)
    return writers


def _try_lock(descriptor: int, mode: int) -> bool:
    try:
        fcntl.flock(descriptor, mode | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _write_holder(lock: TextIO, name: str = "") -> None:
    """Write this process into its lock file, for the messages of other processes.

    The descriptor that holds the lock is used, because on NFS closing another one may release it.
    """
    lock.truncate(0)
    lock.write(f"{name}{': ' if name else ''}process {os.getpid()} on {socket.gethostname()}\n")
    lock.flush()


def _read_holder(path: Path) -> str:
    return path.read_text().strip() or "unknown"


def _make_locked_error(folder: Path, who: str) -> RunLocked:
    return RunLocked(f"{folder} is being written by another run ({who}). Wait for it, or stop it.")
