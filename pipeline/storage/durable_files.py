"""Make writes to local files survive a power cut or a kill."""

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

_THREADS = 16
_CHUNK = 1000  # paths handed to the threads at once, so that a million paths are not kept


def fsync_path(path: Path) -> None:
    """Flush the contents of a file, or the names in a folder, to the device.

    A failed fsync raises OSError and is not repeated, because a second call may wrongly succeed.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fsync_paths(paths: Iterable[Path]) -> None:
    """Flush many files and folders, several at once.

    A file system then writes its journal for all of them together, which is much faster.
    """
    remaining = iter(paths)
    with ThreadPoolExecutor(_THREADS) as pool:
        while chunk := list(islice(remaining, _CHUNK)):
            list(pool.map(fsync_path, chunk))


def append_line(path: Path, line: bytes) -> None:
    """Append a line to a file, after completing a last line that a kill cut short."""
    with path.open("ab+") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read() != b"\n":
                file.write(b"\n")
        file.write(line + b"\n")
