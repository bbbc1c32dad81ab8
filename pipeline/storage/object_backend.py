"""Run storage in an object store.

Each file appears whole by its PUT, and nothing is renamed. Files are written below a local mirror
folder first, and files that are read are downloaded to it. The mirror belongs to one process and is
removed when the process ends.
"""

import shutil
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

from pipeline.core.errors import ConfigError, PipelineError
from pipeline.core.locations import Uri, redact_secrets
from pipeline.core.types import Writer
from pipeline.storage import durable_files
from pipeline.storage.leases import Lease, hold_lease, lease_critical_section
from pipeline.storage.mirror_folder import make_mirror_folder
from pipeline.storage.object_client import ObjectClient

_THREADS = 16
_LOG_INTERVAL_S = 60.0  # between two PUTs of a log
_KEPT_SUFFIXES = (".parquet", ".json", ".jsonl")  # published files that this process reads again
T = TypeVar("T")


class ObjectBackend:
    """A run folder in an object store; implements `RunStorage`."""

    def __init__(self, address: Uri, writer: Writer | None = None) -> None:
        if address.scheme in ("http", "https") or "?" in address.text:
            raise ConfigError(
                f"{redact_secrets(address.text)}: runs are written to and read from stores, such "
                "as s3:// or gs://."
            )
        self.address, self.writer = address, writer or Writer()
        self.remote = ObjectClient(address)
        self.mirror = make_mirror_folder()
        weakref.finalize(self, shutil.rmtree, str(self.mirror), ignore_errors=True)
        self.staging = self.staging_root = self.mirror / ".tmp"
        self._lease: Lease | None = None
        self._log_put_at: dict[str, float] = {}  # name of a log -> time.monotonic() of its PUT

    def exists(self) -> bool:
        return bool(self._translate_errors(lambda: self.remote.list_folder(self.remote.root)))

    def create(self) -> None:
        """Do nothing: an object store has no folders."""

    @contextmanager
    def acquire(self, begin: Callable[[bool], None]) -> Iterator[None]:
        """Hold the run folder as its writer; see `RunStorage.acquire`.

        Raises:
            ConfigError: The store refuses to write.
        """

        def clear_mirror_and_begin(alone: bool) -> None:
            # What was read before may have been changed since by another writer.
            shutil.rmtree(self.mirror)
            self.mirror.mkdir()
            begin(alone)

        with ExitStack() as stack:
            self._lease = self._enter_lease(stack, clear_mirror_and_begin)
            try:
                yield
            finally:
                for name in self._log_put_at:
                    self._put(self.mirror / name, name)
                self._lease = None

    @contextmanager
    def critical_section(self) -> Iterator[None]:
        """Exclude the other writers for a moment. Files that all writers share are read again."""
        with lease_critical_section(self.remote, self.remote.root, str(self.address)):
            for path in (*self.mirror.glob("*.json"), self.mirror / "plan" / "plan.json"):
                path.unlink(missing_ok=True)
            yield

    def check_lock(self) -> None:
        if self._lease:
            self._lease.check()

    def list_files(self, folder: str) -> dict[str, int]:
        sizes = {
            str(entry["name"]).rpartition("/")[2]: entry["size"]
            for entry in self.list_objects(folder)
            if entry["type"] == "file"
        }
        # Some tools create an object with an empty name for a folder.
        return {name: size for name, size in sizes.items() if name}

    def list_objects(self, folder: str) -> list[dict[str, Any]]:
        """Return what is directly below a folder, as `ObjectClient.list_folder` does."""
        path = self._path(folder).rstrip("/")
        return self._translate_errors(lambda: self.remote.list_folder(path))

    def fetch(self, name: str) -> Path:
        path = self.mirror / name
        if path.exists():
            return path

        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(
            f".{uuid4().hex}"
        )  # unique, because two threads may fetch one file
        try:
            self._translate_errors(lambda: self.remote.get(self._path(name), partial))
            partial.replace(path)
        except FileNotFoundError:
            pass
        finally:
            partial.unlink(missing_ok=True)
        return path

    def fetch_all(self, names: Iterable[str]) -> Iterator[Path]:
        with ThreadPoolExecutor(_THREADS) as pool:
            yield from pool.map(self.fetch, names)

    def contains(self, name: str) -> bool:
        return bool(self.list_objects(name))

    def find_existing(self, names: Iterable[str]) -> set[str]:
        all_names = list(names)
        with ThreadPoolExecutor(_THREADS) as pool:
            flags = pool.map(self._is_file, all_names)
            return {name for name, is_file in zip(all_names, flags, strict=True) if is_file}

    def write(self, name: str, data: bytes) -> None:
        """Write an object."""
        self._translate_errors(lambda: self.remote.write(self._path(name), data))

    def publish(self, files: list[Path], base: Path) -> None:
        """PUT files under their names relative to `base`.

        The lock is checked before a commit marker, which is always published by a call of its own.
        """
        names = [str(path.relative_to(base)) for path in files]
        if any(name.startswith("_committed/") for name in names):
            self.check_lock()

        with ThreadPoolExecutor(_THREADS) as pool:
            list(pool.map(self._put, files, names))

        for path, name in zip(files, names, strict=True):
            if path.suffix in _KEPT_SUFFIXES:
                (self.mirror / name).parent.mkdir(parents=True, exist_ok=True)
                path.replace(self.mirror / name)
            else:
                path.unlink()

    def remove(self, name: str) -> None:
        self.check_lock()
        self._translate_errors(lambda: self.remote.remove(self._path(name)))
        (self.mirror / name).unlink(missing_ok=True)

    def append_line(self, name: str, line: bytes) -> None:
        """Append a line to a log in the mirror. The log is PUT about once a minute.

        A kill loses the lines since the last PUT.
        """
        path = self.fetch(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        durable_files.append_line(path, line)
        now = time.monotonic()
        if now - self._log_put_at.setdefault(name, now) > _LOG_INTERVAL_S:
            self._log_put_at[name] = now
            self._put(path, name)

    def _enter_lease(self, stack: ExitStack, begin: Callable[[bool], None]) -> Lease:
        try:
            return stack.enter_context(
                hold_lease(self.remote, self.remote.root, str(self.address), self.writer, begin)
            )
        except PermissionError as error:
            raise ConfigError(
                f"output: cannot write to {self.address}: {error.strerror}. Choose another output=."
            ) from None
        except FileNotFoundError as error:
            raise ConfigError(
                f"output: there is no {self.address} ({error}). Make the bucket first."
            ) from None
        except OSError as error:
            raise ConfigError(f"output: {self.address} does not answer: {error}.") from None

    def _is_file(self, name: str) -> bool:
        try:
            info = self._translate_errors(lambda: self.remote.read_info(self._path(name)))
        except FileNotFoundError:
            return False
        return bool(info["type"] == "file")

    def _put(self, file: Path, name: str) -> None:
        self._translate_errors(lambda: self.remote.put(file, self._path(name)))

    def _path(self, name: str) -> str:
        return f"{self.remote.root}/{name}"

    def _translate_errors(self, request: Callable[[], T]) -> T:
        """Return the result of a request.

        Raises:
            FileNotFoundError: There is no such object.
            ConfigError: The store refuses the request.
            PipelineError: The request failed for another reason.
        """
        try:
            return request()
        except FileNotFoundError:
            raise
        except PermissionError as error:
            raise ConfigError(f"{self.address}: the store refuses: {error.strerror}.") from None
        except OSError as error:
            raise PipelineError(
                f"{self.address}: {error}. Committed shards are kept; run again when it answers."
            ) from None
