"""The interface between a run folder and the place where it is stored."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from pipeline.core.locations import Location, Uri
from pipeline.core.types import Writer
from pipeline.storage.local_backend import LocalBackend
from pipeline.storage.object_backend import ObjectBackend


class RunStorage(Protocol):
    """The operations that a run folder needs from its storage.

    Names are relative to the run folder, with `/` between the parts.
    """

    staging: Path  # this writer's local folder for files that are not published yet
    staging_root: Path  # the local folder above the staging folders of all writers

    def exists(self) -> bool:
        """Return whether anything is stored at this place."""
        ...

    def create(self) -> None:
        """Create what `acquire` needs."""
        ...

    def acquire(self, begin: Callable[[bool], None]) -> AbstractContextManager[None]:
        """Hold the run folder as its writer.

        Args:
            begin: Called with whether there is no other writer, while no other writer can start
                and none is in the critical section.

        Raises:
            RunLocked: Another writer holds the folder; the message names it.
        """
        ...

    def critical_section(self) -> AbstractContextManager[None]:
        """Exclude the other writers for a moment, e.g. to write a file that all writers share."""
        ...

    def check_lock(self) -> None:
        """Raise RunLocked if another writer has taken the folder over."""
        ...

    def list_files(self, folder: str) -> dict[str, int]:
        """Return name -> bytes of the files directly in a folder; empty if it does not exist."""
        ...

    def fetch(self, name: str) -> Path:
        """Return a local path to read a file from. The path does not exist if the file does not."""
        ...

    def fetch_all(self, names: Iterable[str]) -> Iterator[Path]:
        """Yield `fetch` of each name, in order."""
        ...

    def contains(self, name: str) -> bool:
        """Return whether there is a file or a folder of this name."""
        ...

    def find_existing(self, names: Iterable[str]) -> set[str]:
        """Return the names that are files."""
        ...

    def publish(self, files: list[Path], base: Path) -> None:
        """Move files to the same names relative to `base`, each atomically and durably."""
        ...

    def remove(self, name: str) -> None:
        """Remove a file durably, before any later operation takes effect."""
        ...

    def append_line(self, name: str, line: bytes) -> None:
        """Append a line to a log, which is not written atomically."""
        ...


def open_run_storage(location: Location, writer: Writer) -> RunStorage:
    """Return the storage of a run folder on a file system or in an object store."""
    if isinstance(location, Uri):
        return ObjectBackend(location, writer)
    return LocalBackend(location, writer)
