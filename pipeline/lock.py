"""One writer at a time: a lock on a file, which the system lets go of however its holder ends."""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import RunLocked


@contextmanager
def held(path: Path, what: str) -> Iterator[None]:
    """Hold the lock file. Raises RunLocked, which names who else holds `what`."""
    with path.open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            holder = lock.read().strip() or "unknown"
            raise RunLocked(f"{what} is being written by another run ({holder}). Wait for it, or stop it.") from None
        lock.truncate(0)
        lock.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        lock.flush()
        yield
