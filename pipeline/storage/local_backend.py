"""Run storage on a file system.

Files are flushed and renamed into place, and then their folders are flushed.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from pipeline.core.types import Writer
from pipeline.storage import durable_files
from pipeline.storage.durable_files import fsync_path
from pipeline.storage.file_locks import critical_section, lock_folder


class LocalBackend:
    """A run folder on a file system; implements `RunStorage`."""

    def __init__(self, path: Path, writer: Writer) -> None:
        self.path, self.writer = path, writer
        self.staging_root = path / ".tmp"
        self.staging = self.staging_root / writer.name

    def exists(self) -> bool:
        return self.path.is_dir()

    def create(self) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        (self.path / ".lock").touch()

    def acquire(self, begin: Callable[[bool], None]) -> AbstractContextManager[None]:
        return lock_folder(self.path, self.writer, begin)

    def critical_section(self) -> AbstractContextManager[None]:
        return critical_section(self.path)

    def check_lock(self) -> None:
        """Do nothing: the system never takes a file lock away from its holder."""

    def list_files(self, folder: str) -> dict[str, int]:
        try:
            with os.scandir(self.path / folder) as entries:
                return {entry.name: entry.stat().st_size for entry in entries if entry.is_file()}
        except FileNotFoundError:
            return {}

    def fetch(self, name: str) -> Path:
        return self.path / name

    def fetch_all(self, names: Iterable[str]) -> Iterator[Path]:
        return map(self.fetch, names)

    def contains(self, name: str) -> bool:
        return (self.path / name).exists()

    def find_existing(self, names: Iterable[str]) -> set[str]:
        return {name for name in names if (self.path / name).is_file()}

    def publish(self, files: list[Path], base: Path) -> None:
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
        (self.path / name).unlink()
        fsync_path((self.path / name).parent)

    def append_line(self, name: str, line: bytes) -> None:
        durable_files.append_line(self.path / name, line)
