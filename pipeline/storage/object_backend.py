"""A run folder in an object store: each file appears whole by its PUT, and nothing is renamed."""

import os
import shutil
import tempfile
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
from pipeline.storage.leases import Lease, hold_lease, lease_critical_section
from pipeline.storage.local_backend import append_line
from pipeline.storage.object_client import ObjectClient

_AT_ONCE = 16
_LOG_S = 60.0  # between two PUTs of a log
_KEPT = (
    ".parquet",
    ".json",
    ".jsonl",
)  # published files that are read again, at the run's end at the latest
T = TypeVar("T")


class ObjectBackend:
    """What `Disk` is for a file system. Files are written, and those read that are asked for, below a folder of this process
    alone (in TMPDIR), which ends with it."""

    def __init__(self, address: Uri, writer: Writer | None = None) -> None:
        if address.scheme in ("http", "https") or "?" in address.text:
            raise ConfigError(
                f"{redact_secrets(address.text)}: runs are written to and read from stores, such as s3:// or gs://."
            )
        self.address, self.writer = address, writer or Writer()
        self.remote = ObjectClient(address)
        self.mirror = _own_folder()
        weakref.finalize(self, shutil.rmtree, str(self.mirror), ignore_errors=True)
        self.stages = self.staging = self.mirror / ".tmp"
        self._lease: Lease | None = None
        self._logs: dict[str, float] = {}  # when each was PUT

    def exists(self) -> bool:
        return bool(self._asked(lambda: self.remote.list_folder(self.remote.root)))

    def create(self) -> None:
        """There are no folders."""

    @contextmanager
    def acquire(self, begin: Callable[[bool], None]) -> Iterator[None]:
        """Be this writer of it; `begin` as `lock.held` has it. Raises RunLocked, and ConfigError where nothing can be
        written."""

        def begun(alone: bool) -> None:
            shutil.rmtree(
                self.mirror
            )  # what was read before may have been another's, who was at it
            self.mirror.mkdir()
            begin(alone)

        with ExitStack() as stack:
            self._lease = self._leased(stack, begun)
            try:
                yield
            finally:
                for name in self._logs:
                    self._put(self.mirror / name, name)
                self._lease = None

    @contextmanager
    def critical_section(self) -> Iterator[None]:
        """One at a time of the writers who are there; what they share is read anew."""
        with lease_critical_section(self.remote, self.remote.root, str(self.address)):
            for path in (*self.mirror.glob("*.json"), self.mirror / "plan" / "plan.json"):
                path.unlink(missing_ok=True)
            yield

    def _leased(self, stack: ExitStack, begin: Callable[[bool], None]) -> Lease:
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

    def check_lock(self) -> None:
        """Raises RunLocked where it is not."""
        if self._lease:
            self._lease.check()

    def list_files(self, folder: str) -> dict[str, int]:
        found = self.list_objects(folder)
        files = {
            str(one["name"]).rpartition("/")[2]: one["size"]
            for one in found
            if one["type"] == "file"
        }
        return {name: size for name, size in files.items() if name}  # without a folder's own object

    def list_objects(self, folder: str) -> list[dict[str, Any]]:
        return self._asked(lambda: self.remote.list_folder(self._path(folder).rstrip("/")))

    def write(self, name: str, data: bytes) -> None:
        self._asked(lambda: self.remote.write(self._path(name), data))

    def fetch(self, name: str) -> Path:
        path = self.mirror / name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_name(f".{uuid4().hex}")  # two threads may both bring it
            try:
                self._asked(lambda: self.remote.get(self._path(name), part))
                part.replace(path)
            except FileNotFoundError:
                pass
            finally:
                part.unlink(missing_ok=True)
        return path

    def fetch_all(self, names: Iterable[str]) -> Iterator[Path]:
        """`local` of each, several at once."""
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            yield from pool.map(self.fetch, names)

    def contains(self, name: str) -> bool:
        return bool(self.list_objects(name))

    def find_existing(self, names: Iterable[str]) -> set[str]:
        def there(name: str) -> bool:
            try:
                return bool(
                    self._asked(lambda: self.remote.info(self._path(name)))["type"] == "file"
                )
            except FileNotFoundError:
                return False

        every = list(names)
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return {
                name
                for name, is_there in zip(every, pool.map(there, every), strict=True)
                if is_there
            }

    def publish(self, files: list[Path], base: Path) -> None:
        """PUT files from below `base` under the same names. A marker is a file of its own call, and the last."""
        names = [str(path.relative_to(base)) for path in files]
        if any(name.startswith("_committed/") for name in names):
            self.check_lock()
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(self._put, files, names))
        for path, name in zip(files, names, strict=True):
            if path.suffix in _KEPT:
                (self.mirror / name).parent.mkdir(parents=True, exist_ok=True)
                path.replace(self.mirror / name)
            else:
                path.unlink()

    def remove(self, name: str) -> None:
        self.check_lock()
        self._asked(lambda: self.remote.remove(self._path(name)))
        (self.mirror / name).unlink(missing_ok=True)

    def append_line(self, name: str, line: bytes) -> None:
        """PUT as a whole, now and then: a kill loses a minute of it."""
        path = self.fetch(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        append_line(path, line)
        if time.monotonic() - self._logs.setdefault(name, time.monotonic()) > _LOG_S:
            self._logs[name] = time.monotonic()
            self._put(path, name)

    def _put(self, file: Path, name: str) -> None:
        self._asked(lambda: self.remote.put(file, self._path(name)))

    def _path(self, name: str) -> str:
        return f"{self.remote.root}/{name}"

    def _asked(self, question: Callable[[], T]) -> T:
        try:
            return question()
        except FileNotFoundError:
            raise
        except PermissionError as error:
            raise ConfigError(f"{self.address}: the store refuses: {error.strerror}.") from None
        except OSError as error:
            raise PipelineError(
                f"{self.address}: {error}. Committed shards are kept; run again when it answers."
            ) from None


def _own_folder() -> Path:
    """Below TMPDIR. Those of processes that were killed are removed by the next one."""
    base = Path(tempfile.gettempdir())
    for left in base.glob("visionbatch-run-*-*"):
        process = left.name.split("-")[2]
        if process.isdigit() and left.stat().st_uid == os.getuid() and not _runs(int(process)):
            shutil.rmtree(left, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"visionbatch-run-{os.getpid()}-"))


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@contextmanager
def publish_objects(target: Uri, replace: bool) -> Iterator[Path]:
    """A folder to write in; its files become objects below `target` when all went well, one after the other, and what else
    was there goes. Raises ConfigError where there is something that is not to be replaced."""
    store = ObjectBackend(target)
    before = {name for name, _ in _all_below(store)}
    if before and not replace:
        raise ConfigError(
            f"output={target}: there is something already. Name a place where nothing is."
        )
    stage = store.staging / "folder"
    stage.mkdir(parents=True)
    yield stage
    files = [path for path in sorted(stage.rglob("*")) if path.is_file() and not path.is_symlink()]
    now = {str(path.relative_to(stage)) for path in files}
    store.publish(files, stage)
    for name in before - now:
        store.remove(name)


@contextmanager
def publish_object(target: Uri, replace: bool) -> Iterator[Path]:
    """The same for one file."""
    store = ObjectBackend(target.parent)
    if not replace and store.find_existing([target.name]):
        raise ConfigError(
            f"output={target}: there is something already. Name a file that does not exist."
        )
    stage = store.staging / target.name
    stage.parent.mkdir(parents=True)
    yield stage
    store.publish([stage], store.staging)


def write_latest(run: Uri) -> None:
    ObjectBackend(run.parent).write("latest", run.name.encode())


def resolve_latest(run: Uri) -> Uri:
    """The run that `latest` names; any other address is itself."""
    if run.name != "latest":
        return run
    store = ObjectBackend(run.parent)  # which takes its copies with it
    path = store.fetch("latest")
    return run.parent / path.read_text().strip() if path.is_file() else run


def _all_below(store: ObjectBackend, folder: str = "") -> Iterator[tuple[str, int]]:
    for one in store.list_objects(folder):
        name = folder + str(one["name"]).rstrip("/").rpartition("/")[2]
        if one["type"] == "directory":
            yield from _all_below(store, f"{name}/")
        else:
            yield name, one["size"]
