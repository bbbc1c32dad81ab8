"""Leases: the lock of a run folder in an object store, which has no file locks.

A lease is an object that names its holder. It is created only if there is none (If-None-Match), and
its holder rewrites it regularly.

Another writer may take a lease over when its holder is dead. On the same machine, the holder's
process shows this. A holder elsewhere counts as dead when it has not renewed the lease for a
minute, by the store's clock.

The new writer writes its own name into the object and checks it a moment later. Each writer also
checks the object before each commit marker. So of two writers that both believe to hold the lease,
the one whose name is not in the object stops.
"""

import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from fnmatch import fnmatchcase
from threading import Event, Thread

from pipeline.core.errors import PipelineError, RunLocked
from pipeline.core.types import Writer
from pipeline.storage.lease_holder import Holder
from pipeline.storage.object_client import ObjectClient, read_modified_ns

_LEASE_S = 60.0  # a lease ends when it has not been renewed for this long
_RENEWALS = 4  # per `_LEASE_S`
_TICK_S = 0.5  # between two tries to acquire
_SETTLED_S = 2.0  # two writers that take a lease over at once have both written after this

_PREFIX = ".lease-"  # of the name of a lease object
_ALONE, _TOGETHER = "alone", "together"  # leases of the only writer and of the critical section
_PROBE_MARK = "~"  # in the name of an object that is written to read the store's clock
_ONLY_WRITER = Writer()


class Lease:
    """A lease object and this process as its holder."""

    def __init__(self, remote: ObjectClient, path: str, what: str) -> None:
        """Prepare a lease. No request is sent.

        Args:
            remote: Client of the store.
            path: Path of the lease object.
            what: What the lease protects, for messages.
        """
        self.remote, self.path, self.what = remote, path, what
        self.holder = Holder.for_this_process()
        self._is_released = Event()

    def acquire(self) -> None:
        """Acquire the lease once, without waiting.

        Raises:
            RunLocked: Another process holds it; the message names it and says for how long.
        """
        current = _read_holder(self.remote, self.path)
        if current is None and self.remote.create(self.path, self._content()):
            return
        self.check_not_held()
        self.remote.write(self.path, self._content())
        time.sleep(_SETTLED_S)
        self.check()

    def check(self) -> None:
        """Check that this process still holds the lease.

        Raises:
            RunLocked: Another process has taken it over, or it was removed.
            PipelineError: The store does not answer.
        """
        try:
            current = _read_holder(self.remote, self.path)
        except OSError as error:
            raise PipelineError(
                f"{self.what}: whether this run still holds it cannot be found out: {error}."
            ) from None
        if current != self.holder:
            event = f"taken over by {current}" if current else "removed"
            raise RunLocked(
                f"{self.what}: this run's lease was {event}. It stops; "
                "what it has committed is kept."
            )

    def check_not_held(self) -> None:
        """Raise RunLocked if a process that may be alive holds the lease."""
        current = _read_holder(self.remote, self.path)
        if current and not current.is_dead() and (left := self._measure_remaining()) > 0:
            raise RunLocked(
                f"{self.what} is being written by another run ({current}). Wait for it, or stop "
                f"it; if it was killed, its lease ends in {left:.0f} s."
            )

    def is_held(self) -> bool:
        """Return whether a process that may be alive holds the lease."""
        try:
            self.check_not_held()
        except RunLocked:
            return True
        return False

    def renew_until_released(self) -> None:
        """Rewrite the object regularly. A failed renewal is repeated at the next turn."""
        while not self._is_released.wait(_LEASE_S / _RENEWALS):
            try:
                if _read_holder(self.remote, self.path) != self.holder:
                    return
                self.remote.write(self.path, self._content())
            except OSError:
                continue

    def release(self) -> None:
        """Stop renewing the lease and remove its object."""
        self._is_released.set()
        try:
            if _read_holder(self.remote, self.path) == self.holder:
                self.remote.remove(self.path)
        except OSError:  # the lease ends by itself
            pass

    def _measure_remaining(self) -> float:
        """Return the seconds until the lease ends, by the store's clock.

        The clock is read from the time stamp of an object that is written now.
        """
        probe = f"{self.path}{_PROBE_MARK}{self.holder.token}"
        self.remote.write(probe, b"")
        try:
            now = read_modified_ns(self.remote.read_info(probe))
            renewed = read_modified_ns(self.remote.read_info(self.path))
        except FileNotFoundError:
            return 0.0
        finally:
            self.remote.remove(probe)
        return _LEASE_S - (now - renewed) / 1e9

    def _content(self) -> bytes:
        return json.dumps(vars(self.holder)).encode()


@contextmanager
def hold_lease(
    remote: ObjectClient,
    folder: str,
    what: str,
    writer: Writer = _ONLY_WRITER,
    begin: Callable[[bool], None] = lambda alone: None,
) -> Iterator[Lease]:
    """Hold the lease of a writer while the context lasts.

    Args:
        remote: Client of the store.
        folder: Path of the run folder.
        what: Name of the run folder for messages.
        writer: The writer that this process is.
        begin: Called with whether there is no other writer, while no other writer can start and
            none is in the critical section.

    Raises:
        RunLocked: Another writer holds the folder; the message names it.
    """
    lease = Lease(remote, f"{folder}/{_PREFIX}{writer.name or _ALONE}", what)
    with _hold(lease, writer.patience_s):
        with lease_critical_section(remote, folder, what) if writer.name else nullcontext():
            begin(not _find_peers(remote, folder, what, writer))
        yield lease


@contextmanager
def lease_critical_section(remote: ObjectClient, folder: str, what: str) -> Iterator[None]:
    """Exclude the other writers of a folder. Waits for as long as another one is inside."""
    with _hold(Lease(remote, f"{folder}/{_PREFIX}{_TOGETHER}", what), math.inf):
        yield


@contextmanager
def _hold(lease: Lease, patience_s: float) -> Iterator[None]:
    """Acquire a lease, and renew it in a thread while the context lasts."""
    _retry_while_locked(lease.acquire, patience_s)
    thread = Thread(target=lease.renew_until_released, name="lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        lease.release()
        thread.join()


def _find_peers(remote: ObjectClient, folder: str, what: str, writer: Writer) -> list[str]:
    """Return the names of the other writers that may write at the same time and are alive.

    Raises:
        RunLocked: There is another writer that may not write at the same time.
    """
    objects = (str(entry["name"]).rpartition("/")[2] for entry in remote.list_folder(folder))
    names = {
        name.removeprefix(_PREFIX)
        for name in objects
        if name.startswith(_PREFIX) and _PROBE_MARK not in name
    }
    peers = []
    for name in sorted(names - {_TOGETHER, writer.name or _ALONE}):
        lease = Lease(remote, f"{folder}/{_PREFIX}{name}", what)
        if not (writer.name and fnmatchcase(name, writer.allowed_peers)):
            _retry_while_locked(lease.check_not_held, writer.patience_s)
        elif lease.is_held():
            peers.append(name)
    return peers


def _retry_while_locked(attempt: Callable[[], None], patience_s: float) -> None:
    """Repeat an attempt that raises RunLocked, until `patience_s` seconds have passed."""
    deadline = time.monotonic() + patience_s
    while True:
        try:
            return attempt()
        except RunLocked:
            if time.monotonic() >= deadline:
                raise
        time.sleep(_TICK_S)


def _read_holder(remote: ObjectClient, path: str) -> Holder | None:
    """Return the holder of a lease object, or None if there is no such object."""
    try:
        return Holder(**json.loads(remote.read(path)))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError):  # written by another version, or by another program
        return Holder(0, "unknown", "", "", "")
