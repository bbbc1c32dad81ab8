"""Resolve the paths in a manifest, for its source and for the readers of a finished run."""

import io
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, BinaryIO

from pipeline.core.errors import ConfigError
from pipeline.core.keys import key_to_listed_path, key_to_path, path_to_key
from pipeline.core.locations import Location, Uri, expand_home, is_uri, parse_location
from pipeline.core.name_matching import is_file_uri, tidy_path
from pipeline.core.recorded_inputs import InputLocations, RecordedSource
from pipeline.core.types import Entry, InputError, Status
from pipeline.storage.address_reader import AddressReader
from pipeline.storage.listing import open_file, read_entry
from pipeline.storage.named_files import NamedFiles

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ManifestLocations(InputLocations):
    """Locations of the files that a manifest lists. Relative paths begin at `root`."""

    def resolve(self, key: str) -> str:
        """Return the local path or the address that a key stands for.

        A `file://` address becomes its path. A web address stays as it is written.
        """
        path = key_to_listed_path(key)
        if is_file_uri(path):
            path = str(parse_location(path))
        if is_uri(path):
            return path
        if isinstance(self.root, Uri):
            return str(self.root / path)
        return os.path.join(self.root, path)  # noqa: PTH118 - bytes that pathlib would re-encode

    def is_remote(self, key: str) -> bool:
        return is_uri(self.resolve(key))

    def is_below_root(self, key: str) -> bool:
        """Return whether the key is the path of a file below `root`."""
        return key_to_listed_path(key) == key_to_path(key)

    def find_file(self, key: str) -> Path | None:
        """Return the local file of a key; None if the key stands for an address."""
        path = self.resolve(key)
        return None if is_uri(path) else Path(path)

    def make_link(self, key: str) -> str | None:
        """Return a link that browsers can open; None for other kinds of addresses."""
        path = self.resolve(key)
        if is_uri(path):
            return path if path.startswith(("https://", "http://")) else None
        return Path(path).as_uri()


class ManifestFiles:
    """Reads the files that a manifest lists."""

    def __init__(self, root: Location) -> None:
        self.locations = ManifestLocations(root)
        self._addresses = AddressReader()
        self._files = NamedFiles([root]) if isinstance(root, Path) else None
        self._lock = Lock()
        self._has_warned = False  # whether a file was found under another spelling of its name

    def make_entry(
        self, key: str, size: int | None, mtime_ns: int | None, carried: tuple[Any, ...]
    ) -> Entry:
        """Return the entry of a file, with the size and time from the manifest.

        If the manifest has no size, both are read from a local file. For an address they remain
        unknown.
        """
        path = self.locations.resolve(key) if size is None else ""
        if size is not None or is_uri(path) or "\0" in path:
            return Entry(key, size, mtime_ns or 0, carried)
        found = read_entry(self._find_local(key, path), key)
        return Entry(key, found.size, found.mtime_ns, carried)

    def open(self, key: str) -> BinaryIO:
        """Open the file or address of a key as a seekable file. Raises InputError."""
        path = self.locations.resolve(key)
        if is_uri(path):
            return io.BytesIO(self._addresses.read(path))
        if "\0" in path:
            raise InputError(Status.MISSING, "no file has a NUL character in its name")
        try:
            return open_file(self._find_local(key, path))
        except InputError as error:
            if error.status is not Status.MISSING:
                raise
            raise InputError(
                Status.MISSING,
                f"there is no file {path_to_key(path)}; source.root= names the folder that the "
                "manifest's relative paths begin at",
            ) from None

    def _find_local(self, key: str, path: str) -> str:
        """Return the path of a key's file, which may be spelled in another way than in the list.

        Raises:
            ConfigError: Two paths of the list lead to the same file.
        """
        if self._files is None or os.path.lexists(path):
            return path

        listed = key_to_listed_path(key)
        # Of a path that begins outside of the root, the end may be valid below the root.
        is_outside = is_file_uri(listed) or tidy_path(listed).startswith(("/", ".."))
        with self._lock:
            found = self._files.find_own(listed, tails=is_outside)
            if found is not None and not self._has_warned:
                log.warning("%s is not there, so %s is read; others likewise.", path, found)
                self._has_warned = True
        return path if found is None else str(found)

    def read(self, key: str, seconds: float | None = None) -> bytes:
        """Read a whole file.

        Args:
            key: Key of the file.
            seconds: Timeout for an address; None for the client's own.

        Raises:
            InputError: The file cannot be read.
            PipelineError: The store of the address does not answer.
        """
        path = self.locations.resolve(key)
        if is_uri(path):
            return self._addresses.read(path, seconds)
        with self.open(key) as file:
            return file.read()


def resolve_root(folder: Location, root: str | None) -> Location:
    """Return the folder or address at which relative paths begin.

    Args:
        folder: The folder that contains the manifest.
        root: The user's setting, relative to `folder`; None for `folder` itself.
    """
    if root and is_uri(root):
        return parse_location(root)
    if isinstance(folder, Uri):
        return folder / root if root else folder
    return folder / expand_home(root or "")


def find_root(folder: Location, root: str | None) -> Location:
    """Return the result of `resolve_root`. Raises ConfigError if it is not a folder."""
    found = resolve_root(folder, root)
    if isinstance(found, Path) and not found.is_dir():
        raise ConfigError(
            f"source.root={root}: {found} is no folder. Expected the one that the manifest's "
            "relative paths begin at: an absolute path or an address, or a path that is relative "
            "to the manifest's own folder."
        )
    return found


def find_recorded_root(recorded: RecordedSource) -> Location:
    """Return the root of a finished run's manifest. The manifest may no longer exist."""
    manifest = recorded.input
    is_folder = isinstance(manifest, Path) and not manifest.is_file()
    folder = manifest if is_folder else manifest.parent
    return resolve_root(folder, recorded.settings.get("root"))
