"""Files of certain kinds below a folder, streamed in the order of their names."""

import os
import stat
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import BinaryIO

from pipeline.core.errors import ConfigError
from pipeline.core.keys import key_to_path, path_to_key, read_suffix
from pipeline.core.locations import Uri, parse_location
from pipeline.core.types import Entry, InputError, Status
from pipeline.storage.prefetch import Prefetcher
from pipeline.storage.remote_files import RemoteListing

_Identity = tuple[int, int]  # device and inode
_SPECIAL = "a folder, FIFO, socket or device, not a regular file"
_RUN_FOLDER = {"_committed", "plan", "images"}  # sub-folders by which a folder of ours is known


class LocalListing:
    """Lists files by their suffix, depth first, sorted by key. A symbolic link is followed, but each linked folder once, and
    never one that is already being listed. A folder, FIFO or socket with an image's name is listed too, so that it gets its
    row, and so is a folder that cannot be listed.

    Only names and `stat` are read while listing: one folder's names are in memory at a time, not the collection's.
    `below`: the order is that of names with a slash after them, for files whose parts are listed below their name.
    """

    def __init__(
        self, given: str, suffixes: Collection[str], what: str, below: bool = False
    ) -> None:
        """`given` is what the user said, a folder or one file; `what` says in messages what is expected there."""
        path = Path(given).expanduser().resolve()
        self.suffixes, self.what, self.ending = suffixes, what, "/" if below else ""
        self.only = path.name if path.is_file() else None
        self.root = path.parent if self.only else path
        self.identity = path_to_key(str(path))
        if not self.root.is_dir():
            wrong = "is not a folder" if self.root.exists() else "does not exist"
            raise ConfigError(
                f"input={given}: {self.root} {wrong}. Expected a folder of {what}, or one of them."
            )
        if self.only and read_suffix(self.only) not in suffixes:
            kinds = " ".join(sorted(suffixes))
            raise ConfigError(
                f"input={given}: expected a folder of {what}, or a file ending in {kinds}."
            )

    def entries(self) -> Iterator[Entry]:
        if self.only:
            yield read_entry(self._path(path_to_key(self.only)), path_to_key(self.only))
            return
        try:
            yield from self._walk()
        except PermissionError as error:
            raise ConfigError(
                f"Cannot list {self.root}: {error.strerror}. Allow it, or choose another input."
            ) from None

    def open(self, key: str) -> BinaryIO:
        """The file's bytes, as a file that can be searched in. Raises InputError."""
        if key.endswith("/"):
            raise InputError(
                Status.UNREADABLE,
                f"a folder that cannot be listed; its {self.what} are not in this run",
            )
        return open_file(self._path(key))

    def _walk(self) -> Iterator[Entry]:
        # A stack of listings instead of recursion: folders may be nested deeper than Python's frames.
        linked: set[_Identity] = set()
        stack: list[tuple[Iterator[tuple[str, bool]], tuple[_Identity, ...]]]
        stack = [(iter(self._names(str(self.root), "")), (_identity(str(self.root)),))]
        while stack:
            names, above = stack[-1]
            key, is_folder = next(names, ("", False))
            if not key:
                stack.pop()
            elif not is_folder:
                yield read_entry(self._path(key), key)
            else:
                path = self._path(key.rstrip("/"))
                try:
                    identity = _identity(path)
                    if identity in above or identity in linked:
                        continue
                    if os.path.islink(path):  # noqa: PTH114
                        linked.add(identity)
                    stack.append((iter(self._names(path, key)), (*above, identity)))
                except (
                    OSError
                ):  # not allowed, too long a path: a row that says so, under the folder's own name
                    yield Entry(key, 0, 0)

    def _names(self, folder: str, prefix: str) -> list[tuple[str, bool]]:
        """(key, is a folder) of one folder's files and sub-folders in order; none for a run folder of ours, whose overlays
        are no input. With its slash a sub-folder sorts where its contents do, so the whole listing is sorted by key."""
        with os.scandir(folder) as listing:
            found = [(entry.name, _is_folder(entry)) for entry in listing]
        if {name for name, is_dir in found if is_dir} >= _RUN_FOLDER:
            return []
        # an image-named folder comes twice: for its own row and for what is in it
        names = [(path_to_key(name) + "/", True) for name, is_dir in found if is_dir]
        names += [
            (path_to_key(name), False) for name, _ in found if read_suffix(name) in self.suffixes
        ]
        names.sort(key=lambda one: (one[0] if one[1] else one[0] + self.ending, one[1]))
        return [(prefix + name, is_dir) for name, is_dir in names]

    def _path(self, key: str) -> str:
        return os.path.join(self.root, key_to_path(key))  # noqa: PTH118 - bytes that pathlib would re-encode


def open_file(path: str) -> BinaryIO:
    """A regular file's bytes. Raises InputError for everything else."""
    try:
        # O_NONBLOCK: opening a FIFO must not wait for its writer; fstat on the open file leaves no race
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise InputError(
            Status.MISSING, "the file is gone since the plan was made, or is a broken link"
        ) from None
    except OSError as error:
        status = Status.NOT_A_FILE if _is_special(path) else Status.UNREADABLE
        raise InputError(
            status, _SPECIAL if status is Status.NOT_A_FILE else error.strerror or str(error)
        ) from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise InputError(Status.NOT_A_FILE, _SPECIAL)
    return os.fdopen(descriptor, "rb")


def open_listing(
    given: str, suffixes: Collection[str], what: str, below: bool = False
) -> LocalListing | RemoteListing:
    """Of the folder, file or address that the user named. Raises ConfigError for one that is not there."""
    where = parse_location(given)
    if isinstance(where, Uri):
        return RemoteListing(where, suffixes, what, below)
    return LocalListing(str(where), suffixes, what, below)


def make_prefetcher(listed: LocalListing | RemoteListing) -> Prefetcher | None:
    """What fetches its files before they are asked for, where they are far away."""
    return Prefetcher(listed.read) if isinstance(listed, RemoteListing) else None


def _identity(path: str) -> _Identity:
    found = os.stat(path)
    return found.st_dev, found.st_ino


def read_entry(path: str, key: str) -> Entry:
    """The file as it is now; of none, or no regular one, with size 0: `open_file` will say so in its row."""
    try:
        found = os.stat(path)
    except OSError:  # a broken link
        return Entry(key, 0, 0)
    return (
        Entry(key, found.st_size, found.st_mtime_ns)
        if stat.S_ISREG(found.st_mode)
        else Entry(key, 0, 0)
    )


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _is_special(path: str) -> bool:
    try:
        return not stat.S_ISREG(os.stat(path).st_mode)
    except OSError:
        return False
