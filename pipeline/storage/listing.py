"""List and open files of certain kinds below a folder, streamed in the order of their keys."""

import os
import stat
from collections.abc import Collection, Iterable, Iterator
from typing import BinaryIO

from pipeline.core.errors import ConfigError
from pipeline.core.keys import key_to_path, path_to_key, read_suffix
from pipeline.core.locations import Uri, expand_home, parse_location
from pipeline.core.passed_over import (
    PassedOver,
    is_generated_folder,
    is_passed_over_name,
    is_run_folder,
    strip_unfinished_ending,
)
from pipeline.core.types import Entry, InputError, Status
from pipeline.storage.prefetch import Prefetcher
from pipeline.storage.remote_listing import RemoteListing

_FileId = tuple[int, int]  # device and inode
_NOT_REGULAR = "a folder, FIFO, socket or device, not a regular file"


class LocalListing:
    """Files of certain kinds below a folder, depth first and sorted by key.

    A symbolic link to a folder is followed once, and never into a folder that is being listed. A
    folder, FIFO or socket with the name of an image is listed too, so that it gets a row. So is a
    folder that cannot be listed. What `pipeline.core.passed_over` excludes is not listed.

    Listing reads only names and `stat`. The names of one folder are in memory at a time.
    """

    def __init__(
        self, given: str, suffixes: Collection[str], what: str, below: bool = False
    ) -> None:
        """Look the folder up.

        Args:
            given: A folder or one file, as the user wrote it.
            suffixes: The suffixes to list, in lower case.
            what: Plural noun for the files, for messages.
            below: Sort names as if each ended in `/`, for files whose parts are listed below them.

        Raises:
            ConfigError: There is no such folder or file.
        """
        path = expand_home(given).resolve()
        self.suffixes, self.what, self.ending = suffixes, what, "/" if below else ""
        self.only = path.name if path.is_file() else None  # name of a single file
        self.root = path.parent if self.only else path
        self.identity = path_to_key(str(path))
        self.passed_over = PassedOver()  # of the last listing

        if not self.root.is_dir():
            problem = "is not a folder" if self.root.exists() else "does not exist"
            raise ConfigError(
                f"input={given}: {self.root} {problem}. "
                f"Expected a folder of {what}, or one of them."
            )
        if self.only and read_suffix(self.only) not in suffixes:
            kinds = " ".join(sorted(suffixes))
            raise ConfigError(
                f"input={given}: expected a folder of {what}, or a file ending in {kinds}."
            )

    def entries(self) -> Iterator[Entry]:
        """Yield the files, sorted by key.

        Raises:
            ConfigError: The root folder cannot be listed.
        """
        self.passed_over.clear()
        if self.only:
            key = path_to_key(self.only)
            yield read_entry(self._path(key), key)
            return
        try:
            yield from self._walk()
        except PermissionError as error:
            raise ConfigError(
                f"Cannot list {self.root}: {error.strerror}. Allow it, or choose another input."
            ) from None

    def open(self, key: str) -> BinaryIO:
        """Open a file for reading.

        Raises:
            InputError: The file cannot be opened.
        """
        if key.endswith("/"):
            raise InputError(
                Status.UNREADABLE,
                f"a folder that cannot be listed; its {self.what} are not in this run",
            )
        return open_file(self._path(key))

    def _walk(self) -> Iterator[Entry]:
        # A stack of listings, because folders may be nested deeper than Python can recurse.
        linked: set[_FileId] = set()
        stack: list[tuple[Iterator[tuple[str, bool]], tuple[_FileId, ...]]]
        stack = [(iter(self._list_folder(str(self.root), "")), (_read_file_id(str(self.root)),))]
        while stack:
            names, ancestors = stack[-1]
            key, is_folder = next(names, ("", False))
            if not key:
                stack.pop()
                continue
            if not is_folder:
                yield read_entry(self._path(key), key)
                continue

            path = self._path(key.rstrip("/"))
            try:
                file_id = _read_file_id(path)
                if file_id in ancestors or file_id in linked:
                    continue
                if os.path.islink(path):  # noqa: PTH114
                    linked.add(file_id)
                stack.append((iter(self._list_folder(path, key)), (*ancestors, file_id)))
            except OSError:
                # Not allowed, or the path is too long. The folder's key gets a row that says so.
                yield Entry(key, 0, 0)

    def _list_folder(self, folder: str, prefix: str) -> list[tuple[str, bool]]:
        """Return the files and sub-folders of one folder, sorted, as (key, whether a folder).

        The key of a sub-folder ends in `/`. So it sorts where its contents sort, and the whole
        listing is sorted by key.
        """
        with os.scandir(folder) as entries:
            found = [(entry.name, _is_folder(entry)) for entry in entries]
        folders = [name for name, is_folder in found if is_folder]
        if self._is_generated(
            folder, prefix, folders, [name for name, is_dir in found if not is_dir]
        ):
            self.passed_over.add(prefix)
            return []

        # A folder with the name of an image comes twice: for its own row, and for its contents.
        names = [(path_to_key(name) + "/", True) for name in self._select(folders, prefix, True)]
        files = self._select((name for name, _ in found), prefix, False)
        names += [(path_to_key(name), False) for name in files]
        names.sort(key=lambda named: (named[0] if named[1] else named[0] + self.ending, named[1]))
        return [(prefix + name, is_folder) for name, is_folder in names]

    def _is_generated(
        self, folder: str, prefix: str, folders: Collection[str], files: Collection[str]
    ) -> bool:
        """Return whether a folder is an output. The root is one only if it is a run folder."""
        if prefix:
            return is_generated_folder(folder, folders, files)
        return is_run_folder(folder, folders)

    def _select(self, names: Iterable[str], prefix: str, are_folders: bool) -> list[str]:
        """Return the names of inputs, or of folders to visit; count what is passed over."""
        selected = []
        for name in names:
            is_input = are_folders or read_suffix(strip_unfinished_ending(name)) in self.suffixes
            if is_input and is_passed_over_name(name, are_folders):
                self.passed_over.add(prefix + path_to_key(name) + "/" * are_folders)
            elif are_folders or read_suffix(name) in self.suffixes:
                selected.append(name)
        return selected

    def _path(self, key: str) -> str:
        # pathlib would re-encode bytes that are not text
        return os.path.join(self.root, key_to_path(key))  # noqa: PTH118


def open_file(path: str) -> BinaryIO:
    """Open a regular file for reading.

    Raises:
        InputError: The file does not exist, is not regular, or cannot be opened.
    """
    try:
        # With O_NONBLOCK, opening a FIFO does not wait for its writer. The check of the file type
        # follows on the open descriptor, so that it cannot race with a change.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise InputError(
            Status.MISSING, "the file is gone since the plan was made, or is a broken link"
        ) from None
    except OSError as error:
        if _is_special(path):
            raise InputError(Status.NOT_A_FILE, _NOT_REGULAR) from None
        raise InputError(Status.UNREADABLE, error.strerror or str(error)) from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise InputError(Status.NOT_A_FILE, _NOT_REGULAR)
    return os.fdopen(descriptor, "rb")


def open_listing(
    given: str, suffixes: Collection[str], what: str, below: bool = False
) -> LocalListing | RemoteListing:
    """Return the listing of a folder, file or address that the user named.

    Raises:
        ConfigError: It does not exist.
    """
    location = parse_location(given)
    if isinstance(location, Uri):
        return RemoteListing(location, suffixes, what, below)
    return LocalListing(str(location), suffixes, what, below)


def make_prefetcher(listing: LocalListing | RemoteListing) -> Prefetcher | None:
    """Return a prefetcher for a remote listing, or None for a local one."""
    return Prefetcher(listing.read) if isinstance(listing, RemoteListing) else None


def read_entry(path: str, key: str) -> Entry:
    """Return the entry of a file as it is now.

    The size is 0 if the file does not exist or is not regular. Opening it will raise the error.
    """
    try:
        status = os.stat(path)
    except OSError:  # a broken link
        return Entry(key, 0, 0)
    if not stat.S_ISREG(status.st_mode):
        return Entry(key, 0, 0)
    return Entry(key, status.st_size, status.st_mtime_ns)


def _read_file_id(path: str) -> _FileId:
    status = os.stat(path)
    return status.st_dev, status.st_ino


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
