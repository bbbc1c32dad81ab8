"""Where a manifest's paths lead: what its source and those who read a finished run again have in common."""

import io
import os
from pathlib import Path
from typing import Any, BinaryIO

from pipeline.core.errors import ConfigError
from pipeline.core.keys import key_to_listed_path, key_to_path
from pipeline.core.locations import Location, Uri, is_uri, parse_location
from pipeline.core.types import Entry, InputError, Status
from pipeline.storage.address_reader import AddressReader
from pipeline.storage.listing import open_file, read_entry


class ManifestPaths:
    """Files by the keys of a manifest. Relative paths begin at `root`."""

    def __init__(self, root: Location) -> None:
        self.root = root
        self._far = AddressReader()

    def locate(self, key: str) -> str:
        """A path of this machine's, or an address."""
        path = key_to_listed_path(key)
        if is_uri(path):
            return path
        if isinstance(self.root, Uri):
            return str(self.root / path)
        return os.path.join(self.root, path)  # noqa: PTH118 - bytes that are no text

    def is_remote(self, key: str) -> bool:
        return is_uri(self.locate(key))

    def entry(
        self, key: str, size: int | None, mtime_ns: int | None, carried: tuple[Any, ...]
    ) -> Entry:
        """`size` and `mtime_ns` as the manifest has them. Without a size a file is looked at; an address is not."""
        place = self.locate(key) if size is None else ""
        if size is not None or is_uri(place) or "\0" in place:
            return Entry(key, size, mtime_ns or 0, carried)
        found = read_entry(place, key)
        return Entry(key, found.size, found.mtime_ns, carried)

    def open(self, key: str) -> BinaryIO:
        """The file's bytes, as a file that can be searched in. Raises InputError."""
        place = self.locate(key)
        if is_uri(place):
            return io.BytesIO(self._far.read(place))
        if "\0" in place:
            raise InputError(Status.MISSING, "no file has a NUL character in its name")
        return open_file(place)

    def read(self, key: str, seconds: float | None = None) -> bytes:
        """The whole of it, from far away in so many seconds. Raises InputError, and PipelineError where nothing answers."""
        place = self.locate(key)
        if is_uri(place):
            return self._far.read(place, seconds)
        with self.open(key) as file:
            return file.read()

    def file(self, key: str) -> Path | None:
        """On this machine; None for an address."""
        place = self.locate(key)
        return None if is_uri(place) else Path(place)

    def link(self, key: str) -> str | None:
        """For a browser; None for an address that browsers do not open."""
        place = self.locate(key)
        if is_uri(place):
            return place if place.startswith(("https://", "http://")) else None
        return Path(place).as_uri()


def is_below_root(key: str) -> bool:
    """Whether the key is its path: that of a file below the root."""
    return key_to_listed_path(key) == key_to_path(key)


def resolve_root(folder: Location, root: str | None) -> Location:
    """What a manifest's relative paths begin at: `root` is relative to `folder`, the manifest's own."""
    if root and is_uri(root):
        return parse_location(root)
    if isinstance(folder, Uri):
        return folder / root if root else folder
    return folder / Path(root or "").expanduser()


def find_root(folder: Location, root: str | None) -> Location:
    """`joined`. Raises ConfigError where it is no folder."""
    found = resolve_root(folder, root)
    if isinstance(found, Path) and not found.is_dir():
        raise ConfigError(
            f"source.root={root}: {found} is no folder. Expected the one that the manifest's relative paths begin at: an "
            "absolute path or an address, or a path that is relative to the manifest's own folder."
        )
    return found
