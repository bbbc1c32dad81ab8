"""What is asked of a store: by fsspec, a bounded number of times, and again only where the next answer may be another."""

import errno
import random
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from pipeline.core.errors import ConfigError, PipelineError
from pipeline.core.locations import Uri, redact_secrets

_TRIES = 5
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = (
    0.2,
    5.0,
)  # doubled from try to try; each waits a random part of it
_ANSWER_S = 60.0  # for one try where nothing else is said
_EXTRAS = {
    "s3": "s3",
    "s3a": "s3",
    "gs": "gcs",
    "gcs": "gcs",
    "az": "azure",
    "abfs": "azure",
    "abfss": "azure",
}
_EXTRAS |= {"http": "http", "https": "http"}
_PASSING = {
    errno.EBUSY,
    errno.EREMOTEIO,
    errno.EAGAIN,
    errno.ECONNRESET,
    errno.ETIMEDOUT,
    errno.EPIPE,
}
_THROTTLED = (408, 425, 429)  # of HTTP, beside 500 and above
_PERMANENT = (501, 505)
_DRIVERS = ("botocore", "aiobotocore", "aiohttp", "azure", "gcsfs")


class StoreUnavailable(OSError):
    """The store gave no answer, or that it cannot at present, as often as it was asked."""


class StoreTooSlow(StoreUnavailable):
    """There was no time left to ask again."""


class ObjectClient:
    """One store, below one address. Paths are as fsspec has them (`bucket/name`). Raises FileNotFoundError,
    PermissionError, Unanswered and other OSErrors; no message of them holds a credential. Threads may share it."""

    def __init__(self, address: Uri) -> None:
        """Asks nothing yet. Raises ConfigError where there is no driver."""
        self.address = address
        self.fs, self.root = _opened(address)

    def read(
        self,
        path: str,
        start: int | None = None,
        end: int | None = None,
        seconds: float | None = None,
    ) -> bytes:
        """All bytes, or those from `start` to before `end`, in so many seconds with all tries."""
        data: bytes = self.call("cat_file", path, start=start, end=end, seconds=seconds)
        if start is None or end is None or len(data) <= end - start:
            return data
        return data[start:end]  # a server that does not know ranges sends all

    def info(self, path: str) -> dict[str, Any]:
        """`type` (file, directory), `size` (None: not said), and what else the driver knows."""
        return dict(self.call("info", path))

    def list_folder(self, folder: str) -> list[dict[str, Any]]:
        """What lies directly below, as `info` tells it; nothing where there is no such folder."""
        try:
            return list(self.call("ls", folder, detail=True))
        except FileNotFoundError:
            return []

    def list_recursively(self, folder: str) -> Iterator[tuple[str, dict[str, Any]]] | None:
        """(name below the folder, info) of everything in it, however deep, in the order of the names' code points, streamed
        page by page; None where the driver has no such list."""
        return self._pages(folder) if "s3" in self.fs.protocol else None

    def _pages(self, folder: str) -> Iterator[tuple[str, dict[str, Any]]]:
        bucket, _, prefix = f"{folder}/".partition("/")
        at: dict[str, Any] = {}
        while True:
            page = self.call("call_s3", "list_objects_v2", Bucket=bucket, Prefix=prefix, **at)
            for one in page.get("Contents", ()):
                yield (
                    one["Key"].removeprefix(prefix),
                    {"size": one["Size"], "LastModified": one["LastModified"]},
                )
            if not page.get("IsTruncated"):
                return
            at = {"ContinuationToken": page["NextContinuationToken"]}

    def write(self, path: str, data: bytes) -> None:
        """Whole or not at all: one PUT."""
        self.call("pipe_file", path, data)

    def create(self, path: str, data: bytes) -> bool:
        """False where there is such a name already. A store that cannot tell overwrites it."""
        try:
            self.call("pipe_file", path, data, mode="create")
        except FileExistsError:
            return self.read(path) == data  # ours after all, of a try whose answer was lost
        return True

    def put(self, file: Path, path: str) -> None:
        """Whole or not at all: one PUT, or a multipart upload, which shows when it is complete."""
        self.call("put_file", str(file), path, seconds=3600.0)

    def get(self, path: str, file: Path) -> None:
        self.call("get_file", path, str(file), seconds=3600.0)

    def remove(self, path: str) -> None:
        """Also where there is none."""
        with suppress(FileNotFoundError):
            self.call("rm_file", path)

    def call(self, name: str, *arguments: Any, seconds: float | None = None, **options: Any) -> Any:
        """Call the driver's function of this name; again, after a pause, where it may pass. `seconds`: for all tries."""
        until = time.monotonic() + seconds if seconds else None
        for attempt in range(_TRIES):
            left = until - time.monotonic() if until else _ANSWER_S
            try:
                return self._once(name, arguments, options, max(left, 0.01))
            except Exception as error:  # noqa: BLE001 - drivers raise what their libraries raise
                if not is_transient(error):
                    raise translate_error(error, self.address) from None
                failed = error
            pause = random.uniform(0, min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2**attempt))  # noqa: S311 - no secret
            if until and time.monotonic() + pause >= until:
                raise StoreTooSlow(f"not read in {seconds:g} s ({describe_error(failed)})")
            if attempt + 1 < _TRIES:
                time.sleep(pause)
        raise StoreUnavailable(f"{describe_error(failed)} ({_TRIES} tries)")

    def _once(
        self, name: str, arguments: tuple[Any, ...], options: dict[str, Any], seconds: float
    ) -> Any:
        if not self.fs.async_impl:
            return getattr(self.fs, name)(*arguments, **options)
        from fsspec.asyn import sync

        return sync(
            self.fs.loop, getattr(self.fs, f"_{name}"), *arguments, timeout=seconds, **options
        )


def _opened(address: Uri) -> tuple[Any, str]:
    import fsspec

    own: dict[str, Any] = {"use_listings_cache": False, "skip_instance_cache": True}
    if address.scheme in (
        "s3",
        "s3a",
    ):  # tries are ours to count; one GET for a file, without asking for its size first
        limits = {
            "connect_timeout": 10,
            "read_timeout": 60,
            "max_pool_connections": 64,
            "retries": {"total_max_attempts": 1},
        }
        own |= {"config_kwargs": limits, "max_concurrency": 1, "default_cache_type": "none"}
    try:
        fs, root = fsspec.core.url_to_fs(address.text, **own)
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


def find_http_status(error: BaseException) -> int | None:
    """The HTTP status that a driver's error stands for, where it is known."""
    for one in (error, error.__cause__):
        said = getattr(one, "status", None) or getattr(one, "code", None)
        response = getattr(one, "response", None)
        if isinstance(response, dict):
            said = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        if isinstance(said, int):
            return said
    return None


def is_transient(error: BaseException) -> bool:
    """Whether the same question may get another answer: time-outs, resets, throttling, a failing server."""
    if isinstance(error, FileNotFoundError | FileExistsError | PermissionError):
        return False
    if (status := find_http_status(error)) is not None:
        return (status >= 500 and status not in _PERMANENT) or status in _THROTTLED
    if isinstance(error, TimeoutError | ConnectionError):
        return True
    if isinstance(error, OSError) and error.errno in _PASSING:
        return True
    kinds = {f"{kind.__module__.partition('.')[0]}.{kind.__name__}" for kind in type(error).__mro__}
    return bool(
        kinds
        & {
            "botocore.HTTPClientError",
            "botocore.IncompleteReadError",
            "aiohttp.ClientConnectionError",
        }
    ) or bool(
        kinds
        & {
            "aiohttp.ClientPayloadError",
            "azure.ServiceRequestError",
            "botocore.ResponseParserError",
            "fsspec.FSTimeoutError",
        }
    )


def describe_error(error: BaseException) -> str:
    """One line without a credential."""
    status = find_http_status(error)
    text = str(error).strip() or type(error).__name__
    if isinstance(error, OSError) and error.errno and error.strerror is None:
        text = str(error.args[-1])
    return redact_secrets(" ".join((f"HTTP status {status}: {text}" if status else text).split()))


def translate_error(error: Exception, address: Uri) -> Exception:
    """As an error of this program's own, where it is the store's answer."""
    status = find_http_status(error)
    if isinstance(error, FileExistsError) or status == 412:
        return FileExistsError(describe_error(error))
    if isinstance(error, FileNotFoundError) or status in (404, 410):
        return FileNotFoundError(describe_error(error))
    if (
        isinstance(error, PermissionError)
        or status in (401, 403)
        or "Credential" in type(error).__name__
    ):
        return PermissionError(errno.EACCES, describe_error(error))
    if isinstance(error, OSError) or status or type(error).__module__.partition(".")[0] in _DRIVERS:
        return OSError(describe_error(error))
    return PipelineError(
        f"{redact_secrets(address.text)}: {type(error).__name__}: {describe_error(error)}"
    )


def read_modified_ns(info: dict[str, Any]) -> int:
    """When it was last written, in nanoseconds since 1970; 0 where the driver does not say."""
    found = next(
        (
            info[name]
            for name in ("LastModified", "last_modified", "mtime", "updated", "created")
            if info.get(name)
        ),
        0,
    )
    if isinstance(found, str):
        found = datetime.fromisoformat(found.replace("Z", "+00:00"))
    seconds = found.timestamp() if isinstance(found, datetime) else float(found)
    return round(seconds * 1000) * 1_000_000
