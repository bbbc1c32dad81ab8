"""One writer at a time where there are no file locks: an object that says who writes, and is renewed while he does.

It is created on condition that there is none (If-None-Match). A holder that has died on this machine is known by its process
and gives way at once; one elsewhere when it has not renewed for a minute, by the store's own clock. Who takes a lease over
writes its name into it and looks whether it is still there a moment later. A writer looks before each marker, so of two
that both believe to be the one, the one whose name is not in the object stops.
"""

import json
import math
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from threading import Event, Thread
from typing import Any
from uuid import uuid4

from pipeline.core.errors import PipelineError, RunLocked
from pipeline.core.types import Writer
from pipeline.storage.object_client import ObjectClient, read_modified_ns

_LEASE_S = 60.0  # without a renewal, and it is free
_RENEWED = 4  # times in that
_TICK_S = 0.5
_LEASE, _ALONE, _TOGETHER = (
    ".lease-",
    "alone",
    "together",
)  # an object's name: what leases begin with, and two of them
_SETTLED_S = 2.0  # in which two that take a lease over at once have both written


_BY_DEFAULT = Writer()


@dataclass(frozen=True)
class Holder:
    """Who writes. `process` and `host` name a process for as long as that machine is up."""

    process: int
    host: str
    machine: str  # this boot of it, and its space of process numbers; empty: not known
    began: str  # the process's start, because numbers come again
    token: str

    @classmethod
    def for_this_process(cls) -> "Holder":
        return cls(os.getpid(), socket.gethostname(), _machine(), _began(os.getpid()), uuid4().hex)

    def is_dead(self) -> bool:
        """Known to be: it was of this machine, and is no more."""
        return (
            bool(self.machine) and self.machine == _machine() and _began(self.process) != self.began
        )

    def __str__(self) -> str:
        return f"process {self.process} on {self.host}"


class Lease:
    """Held from `leased` on, until it says otherwise."""

    def __init__(self, remote: ObjectClient, path: str, what: str) -> None:
        self.remote, self.path, self.what, self.me = remote, path, what, Holder.for_this_process()
        self._stop = Event()

    def check(self) -> None:
        """Raises RunLocked where another has taken the lease over, and PipelineError where that cannot be found out."""
        try:
            now = _read(self.remote, self.path)
        except OSError as error:
            raise PipelineError(
                f"{self.what}: whether this run still holds it cannot be found out: {error}."
            ) from None
        if now != self.me:
            said = f"taken over by {now}" if now else "removed"
            raise RunLocked(
                f"{self.what}: this run's lease was {said}. It stops; what it has committed is kept."
            )

    def acquire(self) -> None:
        """Raises RunLocked, which names the holder and says for how long."""
        before = _read(self.remote, self.path)
        if before is None and self.remote.create(self.path, self._content()):
            return
        self.check_not_held()
        self.remote.write(self.path, self._content())
        time.sleep(_SETTLED_S)
        self.check()

    def check_not_held(self) -> None:
        """Raises RunLocked where another holds it."""
        holder = _read(self.remote, self.path)
        if holder and not holder.is_dead() and (left := self._left()) > 0:
            raise RunLocked(
                f"{self.what} is being written by another run ({holder}). Wait for it, or stop it; if it was killed, its "
                f"lease ends in {left:.0f} s."
            )

    def is_held(self) -> bool:
        """By one who lives, as far as can be known."""
        try:
            self.check_not_held()
        except RunLocked:
            return True
        return False

    def renew_until_released(self) -> None:
        """Renew until stopped. A renewal that fails is tried again at the next turn; `check` is what decides."""
        while not self._stop.wait(_LEASE_S / _RENEWED):
            try:
                if _read(self.remote, self.path) != self.me:
                    return
                self.remote.write(self.path, self._content())
            except OSError:
                continue

    def release(self) -> None:
        self._stop.set()
        try:
            if _read(self.remote, self.path) == self.me:
                self.remote.remove(self.path)
        except OSError:  # it ends by itself
            pass

    def _left(self) -> float:
        """Seconds until it ends, by the store's clock: that of an object written now."""
        probe = f"{self.path}~{self.me.token}"
        self.remote.write(probe, b"")
        try:
            now, written = (read_modified_ns(self.remote.info(path)) for path in (probe, self.path))
        except FileNotFoundError:
            return 0.0
        finally:
            self.remote.remove(probe)
        return _LEASE_S - (now - written) / 1e9

    def _content(self) -> bytes:
        return json.dumps(vars(self.me)).encode()


@contextmanager
def hold_lease(
    remote: ObjectClient,
    folder: str,
    what: str,
    writer: Writer = _BY_DEFAULT,
    begin: Callable[[bool], None] = lambda alone: None,
) -> Iterator[Lease]:
    """Be this writer of `what`. `begin` is called while no other writer can come or plan, with whether there is none.
    Raises RunLocked, which names who is there."""
    lease = Lease(remote, f"{folder}/{_LEASE}{writer.name or _ALONE}", what)
    with _kept(lease, writer.patience_s):
        with lease_critical_section(remote, folder, what) if writer.name else nullcontext():
            begin(not _admitted(remote, folder, what, writer))
        yield lease


@contextmanager
def lease_critical_section(remote: ObjectClient, folder: str, what: str) -> Iterator[None]:
    """One at a time of the writers who are there. Waits for the one before, however long it plans."""
    with _kept(Lease(remote, f"{folder}/{_LEASE}{_TOGETHER}", what), math.inf):
        yield


@contextmanager
def _kept(lease: Lease, patience: float) -> Iterator[None]:
    """Held and renewed meanwhile."""
    _patiently(lease.acquire, patience)
    thread = Thread(target=lease.renew_until_released, name="lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        lease.release()
        thread.join()


def _admitted(remote: ObjectClient, folder: str, what: str, writer: Writer) -> list[str]:
    """The other writers that live, when all of them are such as this one may write beside. Raises RunLocked."""
    names = (str(one["name"]).rpartition("/")[2] for one in remote.list_folder(folder))
    others = {
        name.removeprefix(_LEASE) for name in names if name.startswith(_LEASE) and "~" not in name
    }
    present = []
    for other in sorted(others - {_TOGETHER, writer.name or _ALONE}):
        lease = Lease(remote, f"{folder}/{_LEASE}{other}", what)
        if not (writer.name and fnmatchcase(other, writer.allowed_peers)):
            _patiently(lease.check_not_held, writer.patience_s)
        elif lease.is_held():
            present.append(other)
    return present


def _patiently(attempt: Callable[[], None], patience: float) -> None:
    """Again, until it is not refused or the patience is over."""
    until = time.monotonic() + patience
    while True:
        try:
            return attempt()
        except RunLocked:
            if time.monotonic() >= until:
                raise
        time.sleep(_TICK_S)


def _read(remote: ObjectClient, path: str) -> Holder | None:
    try:
        return Holder(**json.loads(remote.read(path)))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError):  # an older or newer program's, or none of ours
        return Holder(0, "unknown", "", "", "")


def _machine() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip() + str(
            Path("/proc/self/ns/pid").readlink()
        )
    except OSError:
        return ""


def _began(process: int) -> str:
    """The process's start in ticks since the boot; empty where there is no such process."""
    try:
        stat: Any = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return ""
    fields = stat.rpartition(")")[2].split()
    return "" if fields[0] in "ZX" else fields[19]  # a zombie writes no more
