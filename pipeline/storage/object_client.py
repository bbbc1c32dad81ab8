"""Client of an object store, by fsspec, with a bounded number of tries per request."""

import logging
import random
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.core.errors import ConfigError
from pipeline.core.locations import Uri, redact_secrets
from pipeline.storage.object_pages import ObjectPage, list_pages
from pipeline.storage.store_errors import (
    StoreTooSlow,
    StoreUnavailable,
    describe_error,
    is_transient,
    translate_error,
)

_TRIES = 5
# The limit of the pause doubles from try to try. Each try waits a random part of it.
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.2, 5.0
# The drivers of Google's and Azure's stores repeat requests themselves, for half a minute and more.
_LAST_TRY_S = 30.0  # after the first try; no other begins later
_TRY_TIMEOUT_S = 60.0  # of one try where the caller sets no timeout
_TRANSFER_TIMEOUT_S = 3600.0  # of all tries to upload or download a file
_CHATTY_DRIVERS = ("gcsfs", "google.auth", "azure")  # names of their loggers
_EXTRAS = {  # scheme -> optional dependency of this package
    "s3": "s3",
    "s3a": "s3",
    "gs": "gcs",
    "gcs": "gcs",
    "az": "azure",
    "abfs": "azure",
    "abfss": "azure",
    "http": "http",
    "https": "http",
}


class ObjectClient:
    """Client of one store, for objects below one address. Threads may share it.

    Paths are written as fsspec writes them: `bucket/name`. Methods raise FileNotFoundError,
    PermissionError, StoreUnavailable and other OSErrors. No message has a credential.
    """

    def __init__(self, address: Uri) -> None:
        """Load the driver. No request is sent.

        Raises:
            ConfigError: The driver for this kind of address is not installed.
        """
        self.address = address
        self.fs, self.root = _open_file_system(address)

    def read(
        self,
        path: str,
        start: int | None = None,
        end: int | None = None,
        seconds: float | None = None,
    ) -> bytes:
        """Return all bytes of an object, or those from `start` up to but excluding `end`.

        Args:
            path: Path of the object.
            start: First byte.
            end: End of the range, exclusive.
            seconds: Timeout of all tries together.
        """
        data: bytes = self.call("cat_file", path, start=start, end=end, seconds=seconds)
        if start is None or end is None or len(data) <= end - start:
            return data
        return data[start:end]  # the server does not support ranges and sent the whole object

    def read_info(self, path: str) -> dict[str, Any]:
        """Return an object's `type` (file, directory), `size` (bytes or None) and other facts."""
        return dict(self.call("info", path))

    def list_folder(self, folder: str) -> list[dict[str, Any]]:
        """Return the infos of what is directly below a folder; empty if there is no such folder."""
        try:
            return list(self.call("ls", folder, detail=True))
        except FileNotFoundError:
            return []

    def list_recursively(self, folder: str) -> Iterator[ObjectPage] | None:
        """List all objects below a folder, page by page.

        Returns:
            An iterator over pages, which are requested as they are needed; None if the driver can
            only list folder by folder.
        """
        bucket, _, prefix = f"{folder}/".partition("/")
        return list_pages(self, bucket, prefix)

    def write(self, path: str, data: bytes) -> None:
        """Write an object atomically by one PUT."""
        self.call("pipe_file", path, data)

    def create(self, path: str, data: bytes) -> bool:
        """Write an object if there is none of this name.

        A store without conditional writes overwrites the object.

        Returns:
            Whether the object was created.
        """
        try:
            self.call("pipe_file", path, data, mode="create")
        except FileExistsError:
            # The object may be from an earlier try of this call whose answer was lost.
            return self.read(path) == data
        return True

    def put(self, file: Path, path: str) -> None:
        """Upload a file atomically, by one PUT or a multipart upload."""
        self.call("put_file", str(file), path, seconds=_TRANSFER_TIMEOUT_S)

    def get(self, path: str, file: Path) -> None:
        """Download an object to a file."""
        self.call("get_file", path, str(file), seconds=_TRANSFER_TIMEOUT_S)

    def remove(self, path: str) -> None:
        """Remove an object, if it exists."""
        with suppress(FileNotFoundError):
            self.call("rm_file", path)

    def call(self, name: str, *arguments: Any, seconds: float | None = None, **options: Any) -> Any:
        """Call a function of the driver, and repeat the call after a transient error.

        Args:
            name: Name of the driver's function.
            arguments: Positional arguments of the function.
            seconds: Timeout of all tries together.
            options: Keyword arguments of the function.

        Raises:
            StoreTooSlow: The timeout left no time for another try.
            StoreUnavailable: All tries failed.
        """
        return self._repeat(partial(self._call_driver, name, arguments, options), seconds)

    def call_function(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a coroutine function in the driver's event loop, and repeat it as `call` does."""
        return self._repeat(partial(self._run_in_loop, function, arguments, {}), None)

    def _repeat(self, attempt_once: Callable[[float], Any], seconds: float | None) -> Any:
        """Return the result of the first try that succeeds. Each try gets its timeout."""
        start = time.monotonic()
        deadline = start + seconds if seconds else None
        for attempt in range(_TRIES):
            left = deadline - time.monotonic() if deadline else _TRY_TIMEOUT_S
            try:
                return attempt_once(max(left, 0.01))
            except Exception as error:  # noqa: BLE001 - drivers raise errors of many libraries
                if not is_transient(error):
                    raise translate_error(error, self.address) from None
                failed = error

            longest_pause = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2**attempt)
            pause = random.uniform(0, longest_pause)  # noqa: S311 - no secret
            if deadline and time.monotonic() + pause >= deadline:
                raise StoreTooSlow(f"not read in {seconds:g} s ({describe_error(failed)})")
            if attempt + 1 == _TRIES or time.monotonic() + pause - start > _LAST_TRY_S:
                break
            time.sleep(pause)
        n_tries = attempt + 1
        tries = "1 try" if n_tries == 1 else f"{n_tries} tries"
        raise StoreUnavailable(f"{describe_error(failed)} ({tries})")

    def _call_driver(
        self, name: str, arguments: tuple[Any, ...], options: dict[str, Any], seconds: float
    ) -> Any:
        if not self.fs.async_impl:
            return getattr(self.fs, name)(*arguments, **options)
        return self._run_in_loop(getattr(self.fs, f"_{name}"), arguments, options, seconds)

    def _run_in_loop(
        self,
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
        options: dict[str, Any],
        seconds: float,
    ) -> Any:
        from fsspec.asyn import sync

        return sync(self.fs.loop, function, *arguments, timeout=seconds, **options)


def read_modified_ns(info: dict[str, Any]) -> int:
    """Return the time of the last change in an info: nanoseconds since 1970, or 0 if unknown."""
    names = ("LastModified", "last_modified", "mtime", "updated", "created")
    modified: Any = next((info[name] for name in names if info.get(name)), 0)
    if isinstance(modified, str):
        modified = datetime.fromisoformat(modified.replace("Z", "+00:00"))
    seconds = modified.timestamp() if isinstance(modified, datetime) else float(modified)
    return round(seconds * 1000) * 1_000_000


def _open_file_system(address: Uri) -> tuple[Any, str]:
    """Return fsspec's file system for an address, and the address as a path in it."""
    import fsspec

    # They log the tracebacks of errors that are reported in other words, or tried again.
    for driver in _CHATTY_DRIVERS:
        logging.getLogger(driver).setLevel(logging.CRITICAL)
    try:
        fs, root = fsspec.core.url_to_fs(address.text, **_driver_options(address.scheme))
    except ImportError as error:
        extra = _EXTRAS.get(address.scheme)
        how = (
            f"Install it with: pip install 'visionbatch[{extra}]'" if extra else f"It says: {error}"
        )
        raise ConfigError(
            f"{address}: the driver for {address.scheme}:// is not installed. {how}"
        ) from None
    except ValueError as error:
        raise ConfigError(
            f"{redact_secrets(address.text)}: {redact_secrets(str(error))}."
        ) from None
    fs.retries = 1
    return fs, root.rstrip("/") if "?" not in root else root


def _driver_options(scheme: str) -> dict[str, Any]:
    options: dict[str, Any] = {"use_listings_cache": False, "skip_instance_cache": True}
    if scheme in ("s3", "s3a"):
        limits = {
            "connect_timeout": 10,
            "read_timeout": 60,
            "max_pool_connections": 64,
            "retries": {"total_max_attempts": 1},  # `ObjectClient.call` counts the tries
        }
        # With these options a file is read by one GET, without a request for its size first.
        options |= {"config_kwargs": limits, "max_concurrency": 1, "default_cache_type": "none"}
    return options
