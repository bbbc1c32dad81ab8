"""A run folder on a file system: files are flushed, renamed into place, and their folders flushed."""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from pipeline.core.types import Writer
from pipeline.storage.file_locks import critical_section, lock_folder


class LocalBackend:
    """What `RunFolder` asks of the place where it is; `objects.Objects` is the other such place."""

    def __init__(self, path: Path, writer: Writer) -> None:
        self.path, self.writer = path, writer
        self.stages = path / ".tmp"  # of all writers
        self.staging = self.stages / writer.name

    def exists(self) -> bool:
        return self.path.is_dir()

    def acquire(self, begin: Callable[[bool], None]) -> AbstractContextManager[None]:
        """Be this writer of it; `begin` as `lock.held` has it. Raises RunLocked."""
        return lock_folder(self.path, self.writer, begin)

    def critical_section(self) -> AbstractContextManager[None]:
        return critical_section(self.path)

    def create(self) -> None:
        """So that it can be held."""
        self.path.mkdir(parents=True, exist_ok=True)
        (self.path / ".lock").touch()

    def check_lock(self) -> None:
        """The system takes no file lock away."""

    def list_files(self, folder: str) -> dict[str, int]:
        """Name -> bytes of the files directly in one of its folders."""
        try:
            with os.scandir(self.path / folder) as found:
                return {one.name: one.stat().st_size for one in found if one.is_file()}
        except FileNotFoundError:
            return {}

    def fetch(self, name: str) -> Path:
        """Where the file can be read; it need not exist."""
        return self.path / name

    def fetch_all(self, names: Iterable[str]) -> Iterator[Path]:
        """`local` of each."""
        return map(self.fetch, names)

    def contains(self, name: str) -> bool:
        """Whether there is such a file or folder."""
        return (self.path / name).exists()

    def find_existing(self, names: Iterable[str]) -> set[str]:
        return {name for name in names if (self.path / name).is_file()}

    def publish(self, files: list[Path], base: Path) -> None:
        """Move files from below `base` to the same places here, so that a power cut leaves each whole or absent."""
        for path in files:
            fsync_path(path)
        folders: set[Path] = set()
        for path in files:
            target = self.path / path.relative_to(base)
            target.parent.mkdir(parents=True, exist_ok=True)
            path.replace(target)
            folders.update(p for p in target.parents if p == self.path or self.path in p.parents)
        for folder in folders:
            fsync_path(folder)

    def remove(self, name: str) -> None:
        """For good, before anything that comes after."""
        (self.path / name).unlink()
        fsync_path((self.path / name).parent)

    def append_line(self, name: str, line: bytes) -> None:
        """To a log that is no part of the promise."""
        append_line(self.path / name, line)


def append_line(path: Path, line: bytes) -> None:
    with path.open("ab+") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read() != b"\n":  # a kill cut the last line
                file.write(b"\n")
        file.write(line + b"\n")


def fsync_path(path: Path) -> None:
    """Make a file's contents, or a folder's names, survive a power cut. A failed fsync raises and is not tried again."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
