"""Files of certain kinds below an address, listed and opened as `Listing` does it for a folder."""

import io
from collections.abc import Collection, Iterator
from heapq import heappop, heappush
from itertools import islice
from threading import Lock
from typing import Any, BinaryIO

from pipeline.core.errors import ConfigError, PipelineError
from pipeline.core.keys import key_to_path, path_to_key, read_suffix
from pipeline.core.locations import Uri, parse_location, redact_secrets
from pipeline.core.types import Entry, InputError, Status
from pipeline.storage.object_client import (
    ObjectClient,
    StoreTooSlow,
    StoreUnavailable,
    read_modified_ns,
)

_BLOCK = 1 << 20  # bytes that a file opened here asks for at least
_DOWN = (
    32  # failures in a row, after which a store is taken to be down, and not its files to be bad
)
_PROBE_S = 10.0  # for another file, to tell whether the store answers at all
_MARKER = "_committed/"  # what is beside it is a run of ours, and no input
_Found = tuple[str, dict[str, Any]]  # name below the root, what the store says of it


class RemoteListing:
    """Objects are listed whatever their names are; a name is a key, but for `\\x` (see `keys.py`). A store that lists in the
    order of the names is read page by page, another folder by folder."""

    def __init__(
        self, given: Uri, suffixes: Collection[str], what: str, below: bool = False
    ) -> None:
        """As `Listing`. Raises ConfigError also where the store refuses, or does not answer."""
        self.remote = ObjectClient(given)
        self.suffixes, self.what, self.ending = suffixes, what, "/" if below else ""
        self.identity = redact_secrets(given.text)
        found = self._look(given)
        self.only = self.remote.root if found["type"] == "file" else None
        self.root = Uri(self.identity).parent if self.only else Uri(self.identity)
        self._known_good: str | None = None  # read well the last time
        if self.only and suffixes and read_suffix(self.root_name) not in suffixes:
            kinds = " ".join(sorted(suffixes))
            raise ConfigError(
                f"input={self.identity}: expected a folder of {what}, or a file ending in {kinds}."
            )

    @property
    def root_name(self) -> str:
        return Uri(self.identity).name

    def _look(self, given: Uri) -> dict[str, Any]:
        web = given.scheme in ("http", "https")
        if (
            web
            and read_suffix(self.identity.rpartition("/")[2]) not in self.suffixes
            and self.suffixes
        ):
            return {"type": "directory"}  # a page of links; the driver takes every page for a file
        try:
            return self.remote.info(self.remote.root)
        except FileNotFoundError:
            raise ConfigError(
                f"input={self.identity} does not exist. Expected a folder of {self.what}, or one of them."
            ) from None
        except PermissionError as error:
            raise ConfigError(f"input={self.identity}: {_refused(error)}") from None
        except OSError as error:
            raise ConfigError(
                f"input={self.identity}: the store does not answer: {error}."
            ) from None

    def entries(self) -> Iterator[Entry]:
        if self.only:
            yield _entry(path_to_key(self.root_name), self._ask_info(self.only))
            return
        try:
            yield from self._sorted()
        except PermissionError as error:
            raise ConfigError(f"Cannot list {self.root}: {_refused(error)}") from None
        except OSError as error:
            raise PipelineError(
                f"Cannot list {self.root}: {error}. Run again when it answers."
            ) from None

    def open(self, key: str) -> BinaryIO:
        """A file that asks for what is read of it. Raises InputError; reading raises OSError."""
        path = self._path(key)
        try:
            size = self.remote.info(path).get("size")
        except OSError as error:
            raise self._verdict(path, error) from None
        if size is None:
            return io.BytesIO(self.read(key))
        return io.BufferedReader(_Ranges(self, path, size), _BLOCK)

    def read(self, key: str, seconds: float | None = None) -> bytes:
        """The whole of it, in one request. Raises InputError, and PipelineError where the store is down as a whole."""
        path = self._path(key)
        try:
            data = self.remote.read(path, seconds=seconds)
        except OSError as error:
            raise self._verdict(path, error) from None
        self._known_good = path
        return data

    def _sorted(self) -> Iterator[Entry]:
        """By key with the ending after it, which may come later than the name alone: what is held back is what such names
        stand between."""
        held: list[tuple[str, int, Entry]] = []
        last = ""
        for number, (name, info) in enumerate(self._wanted()):
            key = path_to_key(name)
            if key < last:
                raise PipelineError(
                    f"{self.root}: the store lists {key!r} after {last!r}; its order cannot be relied on."
                )
            last = key
            while held and held[0][0] <= key:
                yield heappop(held)[2]
            heappush(held, (key + self.ending, number, _entry(key, info)))
        while held:
            yield heappop(held)[2]

    def _wanted(self) -> Iterator[_Found]:
        """Files of these kinds, without those of runs of ours."""
        run = None
        for name, info in self.remote.list_recursively(self.remote.root) or self._walk(
            self.remote.root, ""
        ):
            before, marker, rest = name.rpartition(_MARKER)
            if marker and rest[:5].isdigit() and (not before or before.endswith("/")):
                run = before
            if (run is None or not name.startswith(run)) and read_suffix(name) in self.suffixes:
                yield name, info

    def _walk(self, folder: str, prefix: str) -> Iterator[_Found]:
        found = {}
        for one in self.remote.list_folder(folder):
            name = (
                str(one["name"])
                .rstrip("/")
                .removeprefix(f"{folder}/".lstrip("/"))
                .removeprefix(f"{folder}/")
            )
            if (
                name and "/" not in name and "?" not in name and "#" not in name
            ):  # links of a page may lead anywhere
                is_folder = one["type"] == "directory" or (str(one["name"]).endswith("/"))
                found[name + "/" * is_folder] = one
        for name, one in sorted(found.items()):
            if name.endswith("/"):
                yield from self._walk(f"{folder}/{name[:-1]}", prefix + name)
            else:
                yield prefix + name, one

    def _path(self, key: str) -> str:
        return self.only if self.only else f"{self.remote.root}/{key_to_path(key)}"

    def _ask_info(self, path: str) -> dict[str, Any]:
        try:
            return self.remote.info(path)
        except OSError:
            return {}  # its row will say so

    def _verdict(self, path: str, error: OSError) -> Exception:
        """What becomes of one input. That it is refused, or not answered for, is its own fault only if others are given."""
        if isinstance(error, FileNotFoundError):
            return InputError(Status.MISSING, "the object is gone since the plan was made")
        if isinstance(error, PermissionError | StoreUnavailable) and (down := self._down(path)):
            return PipelineError(
                f"{self.root}: {down}. Nothing can be read there. Committed shards are kept; run again later."
            )
        if isinstance(error, StoreTooSlow):
            return InputError(Status.TIMEOUT, str(error))
        return InputError(Status.UNREADABLE, _why(error))

    def _down(self, path: str) -> str | None:
        """Why not even a file that was read before can be had, or two others where none was."""
        others = (self._path(entry.key) for entry in self.entries())
        said = None
        for other in (
            [self._known_good]
            if self._known_good
            else islice((one for one in others if one != path), 2)
        ):
            try:
                self.remote.read(other, 0, 1, _PROBE_S)
            except (PermissionError, StoreUnavailable) as error:
                said = str(error)
            except OSError:
                return None
            else:
                return None
        return said


class AddressReader:
    """Files that are named by their addresses, one by one, anywhere. Threads may share it."""

    def __init__(self) -> None:
        self._remotes: dict[str, ObjectClient] = {}  # by scheme and host or bucket
        self._lock = Lock()
        self._failed = 0  # one after the other

    def read(self, address: str, seconds: float | None = None) -> bytes:
        """The whole of it. Raises InputError, and PipelineError where many in a row cannot be had."""
        try:
            remote = self._remote(address)
            data = remote.read(remote.fs._strip_protocol(address), seconds=seconds)
        except FileNotFoundError:
            raise InputError(Status.MISSING, "nothing is at this address") from None
        except ConfigError as error:
            raise InputError(Status.UNREADABLE, str(error)) from None
        except OSError as error:
            self._count(address, error)
            if isinstance(error, StoreTooSlow):
                raise InputError(Status.TIMEOUT, str(error)) from None
            refused = isinstance(error, PermissionError)
            raise InputError(
                Status.UNREADABLE,
                f"the store refuses it: {error.strerror}" if refused else str(error),
            ) from None
        self._failed = 0
        return data

    def _remote(self, address: str) -> ObjectClient:
        where = parse_location(address)
        assert isinstance(where, Uri), "asked for addresses only"  # noqa: S101
        scheme, _, rest = where.text.partition("://")
        store = f"{scheme}://{rest.partition('/')[0]}"
        with self._lock:
            if store not in self._remotes:
                self._remotes[store] = ObjectClient(Uri(store))
            return self._remotes[store]

    def _count(self, address: str, error: OSError) -> None:
        with self._lock:
            self._failed += 1
        if self._failed >= _DOWN:
            raise PipelineError(
                f"{_DOWN} addresses one after the other cannot be read, at last {redact_secrets(address)}: {error}. "
                "Committed shards are kept; run again later."
            ) from None


class _Ranges(io.RawIOBase):
    """A file far away: each read is a request for its range."""

    def __init__(self, listing: RemoteListing, path: str, size: int) -> None:
        self._listing, self._path, self._size, self._at = listing, path, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = max(
            0, offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        )
        return self._at

    def readinto(self, buffer: Any) -> int:
        data = self._read_to(min(self._at + len(buffer), self._size))
        buffer[: len(data)] = data
        return len(data)

    def readall(self) -> bytes:
        """The rest in one request, where the standard library would ask for 8 KB at a time."""
        return self._read_to(self._size)

    def _read_to(self, end: int) -> bytes:
        if end <= self._at:
            return b""
        try:
            data = self._listing.remote.read(self._path, self._at, end)
        except OSError as error:
            raise self._listing._verdict(self._path, error) from None
        self._at += len(data)
        return data


def _entry(key: str, info: dict[str, Any]) -> Entry:
    return Entry(key, info.get("size"), read_modified_ns(info))


def _why(error: OSError) -> str:
    return (
        f"the store refuses it: {error.strerror}"
        if isinstance(error, PermissionError)
        else str(error)
    )


def _refused(error: OSError) -> str:
    return (
        f"the store refuses: {error.strerror or error}. Credentials come from the environment, as its own tools read them "
        f"(AWS_ACCESS_KEY_ID, GOOGLE_APPLICATION_CREDENTIALS, AZURE_STORAGE_ACCOUNT_NAME ...)."
    )
