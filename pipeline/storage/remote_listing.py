"""List and open files of certain kinds below an address, as `LocalListing` does for a folder."""

import io
from collections.abc import Collection, Iterable, Iterator
from heapq import heappop, heappush
from itertools import islice
from typing import Any, BinaryIO

from pipeline.core.errors import ConfigError, PipelineError
from pipeline.core.keys import key_to_path, path_to_key, read_suffix
from pipeline.core.locations import Uri, redact_secrets
from pipeline.core.passed_over import (
    PassedOver,
    find_generated_folder,
    is_passed_over,
    strip_unfinished_ending,
)
from pipeline.core.types import Entry, InputError, Status
from pipeline.storage.object_client import ObjectClient, read_modified_ns
from pipeline.storage.ordered_listing import NamedInfo, OrderedListing
from pipeline.storage.range_file import MIN_REQUEST_BYTES, RangeFile
from pipeline.storage.store_errors import StoreTooSlow, StoreUnavailable

_PROBE_TIMEOUT_S = 10.0  # to read another file, which shows whether the store answers at all
_PROBE_FILES = 2


class RemoteListing:
    r"""The files with certain suffixes below an address.

    The key of a file is its name below the address, except for `\x` escapes (see `keys.py`).
    """

    def __init__(
        self, given: Uri, suffixes: Collection[str], what: str, below: bool = False
    ) -> None:
        """Look the address up in the store.

        Args:
            given: A folder or one file.
            suffixes: The suffixes to list, in lower case.
            what: Plural noun for the files, for messages.
            below: Sort names as if each ended in `/`, for files whose parts are listed below them.

        Raises:
            ConfigError: There is no such folder or file, or the store refuses or does not answer.
        """
        self.remote = ObjectClient(given)
        self.suffixes, self.what, self.ending = suffixes, what, "/" if below else ""
        self.identity = redact_secrets(given.text)
        is_file = self._read_root_info(given)["type"] == "file"
        self.only = self.remote.root if is_file else None  # path of a single file
        self.root = Uri(self.identity).parent if self.only else Uri(self.identity)
        self.passed_over = PassedOver()  # of the last listing
        self._ordered = OrderedListing(self.remote, self.passed_over)
        self._last_read: str | None = None  # path of the last file that was read

        if self.only and suffixes and read_suffix(self.root_name) not in suffixes:
            kinds = " ".join(sorted(suffixes))
            raise ConfigError(
                f"input={self.identity}: expected a folder of {what}, or a file ending in {kinds}."
            )

    @property
    def root_name(self) -> str:
        """The last part of the address."""
        return Uri(self.identity).name

    def entries(self) -> Iterator[Entry]:
        """Yield the files, sorted by key.

        Raises:
            ConfigError: The store refuses.
            PipelineError: The store does not answer.
        """
        self.passed_over.clear()
        if self.only:
            yield _make_entry(path_to_key(self.root_name), self._read_info_or_nothing(self.only))
            return
        try:
            yield from self._list_sorted()
        except PermissionError as error:
            raise ConfigError(f"Cannot list {self.root}: {_describe_refusal(error)}") from None
        except OSError as error:
            raise PipelineError(
                f"Cannot list {self.root}: {error}. Run again when it answers."
            ) from None

    def open(self, key: str) -> BinaryIO:
        """Open a file that requests only the ranges that are read.

        Raises:
            InputError: The file cannot be opened. Reading it may raise the same error.
            PipelineError: The whole store is down.
        """
        path = self._path(key)
        try:
            size = self.remote.read_info(path).get("size")
        except OSError as error:
            raise self._make_read_error(path, error) from None
        if size is None:
            return io.BytesIO(self.read(key))

        def read_range(start: int, end: int) -> bytes:
            try:
                return self.remote.read(path, start, end)
            except OSError as error:
                raise self._make_read_error(path, error) from None

        return io.BufferedReader(RangeFile(read_range, size), MIN_REQUEST_BYTES)

    def read(self, key: str, seconds: float | None = None) -> bytes:
        """Read a whole file by one request.

        Args:
            key: The file's key.
            seconds: Timeout; None for the client's own.

        Raises:
            InputError: The file cannot be read.
            PipelineError: The whole store is down.
        """
        path = self._path(key)
        try:
            data = self.remote.read(path, seconds=seconds)
        except OSError as error:
            raise self._make_read_error(path, error) from None
        self._last_read = path
        return data

    def _read_root_info(self, given: Uri) -> dict[str, Any]:
        is_web = given.scheme in ("http", "https")
        last_part = self.identity.rpartition("/")[2]
        if is_web and self.suffixes and read_suffix(last_part) not in self.suffixes:
            # A page of links. The driver would say that it is a file, as it does for every page.
            return {"type": "directory"}
        try:
            return self.remote.read_info(self.remote.root)
        except FileNotFoundError:
            raise ConfigError(
                f"input={self.identity} does not exist. "
                f"Expected a folder of {self.what}, or one of them."
            ) from None
        except PermissionError as error:
            raise ConfigError(f"input={self.identity}: {_describe_refusal(error)}") from None
        except OSError as error:
            raise ConfigError(
                f"input={self.identity}: the store does not answer: {error}."
            ) from None

    def _list_sorted(self) -> Iterator[Entry]:
        """Yield the files, sorted by key + ending.

        The store sorts by key alone. So a file waits in a heap until no later name can precede it.
        """
        heap: list[tuple[str, int, Entry]] = []
        last_key = ""
        for number, (name, info) in enumerate(self._list_inputs()):
            key = path_to_key(name)
            if key < last_key:
                raise PipelineError(
                    f"{self.root}: the store lists {key!r} after {last_key!r}; "
                    "its order cannot be relied on."
                )
            last_key = key
            while heap and heap[0][0] <= key:
                yield heappop(heap)[2]
            heappush(heap, (key + self.ending, number, _make_entry(key, info)))
        while heap:
            yield heappop(heap)[2]

    def _list_inputs(self) -> Iterator[NamedInfo]:
        """Yield the files with one of the suffixes, except what `passed_over` excludes."""
        generated = None  # name prefix of the generated folder that the listing is in
        for name, info in self._ordered:
            if generated is not None and name.startswith(generated):
                continue
            generated = find_generated_folder(name)
            if generated is not None:
                self.passed_over.add(generated or "./")
                continue

            if read_suffix(strip_unfinished_ending(name)) not in self.suffixes:
                continue
            if is_passed_over(name):
                self.passed_over.add(path_to_key(name))
            elif read_suffix(name) in self.suffixes:
                yield name, info

    def _path(self, key: str) -> str:
        return self.only if self.only else f"{self.remote.root}/{key_to_path(key)}"

    def _read_info_or_nothing(self, path: str) -> dict[str, Any]:
        try:
            return self.remote.read_info(path)
        except OSError:
            return {}  # reading the file will fail too, and its row will have the error

    def _make_read_error(self, path: str, error: OSError) -> Exception:
        """Return the error of a file that could not be read.

        A refusal or a missing answer is the file's own error only if other files can be read.
        """
        if isinstance(error, FileNotFoundError):
            return InputError(Status.MISSING, "the object is gone since the plan was made")
        if isinstance(error, PermissionError | StoreUnavailable) and (
            reason := self._find_why_store_is_down(path)
        ):
            return PipelineError(
                f"{self.root}: {reason}. Nothing can be read there. "
                "Committed shards are kept; run again later."
            )
        if isinstance(error, StoreTooSlow):
            return InputError(Status.TIMEOUT, str(error))
        return InputError(Status.UNREADABLE, _describe_failure(error))

    def _find_why_store_is_down(self, path: str) -> str | None:
        """Probe other files; return the error if none of them can be read, else None.

        The file that was read last is probed, or two other files if none was read yet.
        """
        probes: Iterable[str]
        if self._last_read:
            probes = [self._last_read]
        else:
            others = (self._path(entry.key) for entry in self.entries())
            probes = islice((other for other in others if other != path), _PROBE_FILES)

        reason = None
        for probe in probes:
            try:
                self.remote.read(probe, 0, 1, _PROBE_TIMEOUT_S)
            except (PermissionError, StoreUnavailable) as error:
                reason = str(error)
            except OSError:
                return None
            else:
                return None
        return reason


def _make_entry(key: str, info: dict[str, Any]) -> Entry:
    return Entry(key, info.get("size"), read_modified_ns(info))


def _describe_failure(error: OSError) -> str:
    if isinstance(error, PermissionError):
        return f"the store refuses it: {error.strerror}"
    return str(error)


def _describe_refusal(error: OSError) -> str:
    return (
        f"the store refuses: {error.strerror or error}. Credentials come from the environment, as "
        "its own tools read them (AWS_ACCESS_KEY_ID, GOOGLE_APPLICATION_CREDENTIALS, "
        "AZURE_STORAGE_ACCOUNT_NAME ...)."
    )
