"""Every image file under a folder."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from pipeline.decoding import SUFFIXES
from pipeline.errors import ConfigError
from pipeline.keys import key_of, path_of
from pipeline.types import Entry, InputError, Status


class Folder:
    """Lists files by their suffix, depth first, sorted by key. A symbolic link is followed, but never into a folder that
    is already being listed. A folder, FIFO or socket with an image's name is listed too, so that it gets its row.

    Only names and `stat` are read while listing: one folder's names are in memory at a time, not the collection's.
    """

    def __init__(self, root: str) -> None:
        self.root = Path(root).expanduser().resolve()
        if not self.root.is_dir():
            what = "is not a folder" if self.root.exists() else "does not exist"
            raise ConfigError(f"input={root}: {self.root} {what}. Expected a folder of images.")
        self.identity = f"folder:{key_of(str(self.root))}"

    def entries(self) -> Iterator[Entry]:
        yield from self._walk(str(self.root), "", ())

    def open(self, key: str) -> BinaryIO:
        try:
            # O_NONBLOCK: opening a FIFO must not wait for its writer; fstat on the open file leaves no race
            descriptor = os.open(self.root / path_of(key), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            raise InputError(Status.MISSING, "the file is gone since the plan was made, or is a broken link") from None
        except OSError as error:
            status = Status.NOT_A_FILE if _is_special(self.root / path_of(key)) else Status.UNREADABLE
            raise InputError(status, error.strerror or str(error)) from None
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise InputError(Status.NOT_A_FILE, "a folder, FIFO, socket or device, not a regular file")
        return os.fdopen(descriptor, "rb")

    def _walk(self, folder: str, prefix: str, above: tuple[tuple[int, int], ...]) -> Iterator[Entry]:
        here = os.stat(folder)
        identity = (here.st_dev, here.st_ino)
        if identity in above:
            return
        try:
            with os.scandir(folder) as listing:
                found = [(entry.name, _is_folder(entry)) for entry in listing]
        except PermissionError as error:  # leaving its images out would be a silent loss
            raise ConfigError(f"Cannot list {folder}: {error.strerror}. Allow it, or choose another input.") from None
        # With its slash a folder sorts where its contents do, so the whole listing is sorted by key. An image-named
        # folder comes twice: for its own row and for what is in it.
        names = [key_of(name) + "/" for name, is_dir in found if is_dir]
        names += [key_of(name) for name, _ in found if Path(name).suffix.casefold() in SUFFIXES]
        for name in sorted(names):
            path = os.path.join(folder, path_of(name.rstrip("/")))  # noqa: PTH118 - bytes that pathlib would re-encode
            if name.endswith("/"):
                yield from self._walk(path, prefix + name, (*above, identity))
            else:
                yield _entry(path, prefix + name)


def _entry(path: str, key: str) -> Entry:
    try:
        found = os.stat(path)
    except OSError:  # a broken link: `open` will say so in its row
        return Entry(key, 0, 0)
    return Entry(key, found.st_size, found.st_mtime_ns) if stat.S_ISREG(found.st_mode) else Entry(key, 0, 0)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _is_special(path: Path) -> bool:
    try:
        return not stat.S_ISREG(os.stat(path).st_mode)
    except OSError:
        return False
