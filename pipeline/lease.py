"""One writer at a time where there are no file locks: an object that says who writes, and is renewed while he does.

It is created on condition that there is none (If-None-Match). A holder that has died on this machine is known by its process
and gives way at once; one elsewhere when it has not renewed for a minute, by the store's own clock. Who takes a lease over
writes its name into it and looks whether it is still there a moment later. A writer looks before each marker, so of two
that both believe to be the one, the one whose name is not in the object stops.
"""

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Any
from uuid import uuid4

from pipeline.errors import PipelineError, RunLocked
from pipeline.remote import Remote, modified_ns

_LEASE_S = 60.0  # without a renewal, and it is free
_RENEWED = 4  # times in that
_SETTLED_S = 2.0  # in which two that take a lease over at once have both written


@dataclass(frozen=True)
class Holder:
    """Who writes. `process` and `host` name a process for as long as that machine is up."""

    process: int
    host: str
    machine: str  # this boot of it, and its space of process numbers; empty: not known
    began: str  # the process's start, because numbers come again
    token: str

    @classmethod
    def here(cls) -> "Holder":
        return cls(os.getpid(), socket.gethostname(), _machine(), _began(os.getpid()), uuid4().hex)

    def is_dead(self) -> bool:
        """Known to be: it was of this machine, and is no more."""
        return bool(self.machine) and self.machine == _machine() and _began(self.process) != self.began

    def __str__(self) -> str:
        return f"process {self.process} on {self.host}"


class Lease:
    """Held from `leased` on, until it says otherwise."""

    def __init__(self, remote: Remote, path: str, what: str) -> None:
        self.remote, self.path, self.what, self.me = remote, path, what, Holder.here()
        self._stop = Event()

    def check(self) -> None:
        """Raises RunLocked where another has taken the lease over, and PipelineError where that cannot be found out."""
        try:
            now = _read(self.remote, self.path)
        except OSError as error:
            raise PipelineError(f"{self.what}: whether this run still holds it cannot be found out: {error}.") from None
        if now != self.me:
            said = f"taken over by {now}" if now else "removed"
            raise RunLocked(f"{self.what}: this run's lease was {said}. It stops; what it has committed is kept.")

    def acquire(self) -> None:
        """Raises RunLocked, which names the holder and says for how long."""
        before = _read(self.remote, self.path)
        if before is None and self.remote.create(self.path, self._content()):
            return
        self.refuse_a_living()
        self.remote.write(self.path, self._content())
        time.sleep(_SETTLED_S)
        self.check()

    def refuse_a_living(self) -> None:
        """Raises RunLocked where another holds it."""
        holder = _read(self.remote, self.path)
        if holder and not holder.is_dead() and (left := self._left()) > 0:
            raise RunLocked(
                f"{self.what} is being written by another run ({holder}). Wait for it, or stop it; if it was killed, its "
                f"lease ends in {left:.0f} s."
            )

    def keep(self) -> None:
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
        probe = f"{self.path}-{self.me.token}"
        self.remote.write(probe, b"")
        try:
            now, written = (modified_ns(self.remote.info(path)) for path in (probe, self.path))
        except FileNotFoundError:
            return 0.0
        finally:
            self.remote.remove(probe)
        return _LEASE_S - (now - written) / 1e9

    def _content(self) -> bytes:
        return json.dumps(vars(self.me)).encode()


@contextmanager
def leased(remote: Remote, folder: str, what: str, index: int = 0, count: int = 1) -> Iterator[Lease]:
    """Be the one writer of `what`, or of its part `index` of `count`: those of one count work side by side, others are
    refused. Raises RunLocked."""
    name = f".lease-{index}-of-{count}"
    lease = Lease(remote, f"{folder}/{name}", what)
    lease.acquire()
    thread = Thread(target=lease.keep, name="lease", daemon=True)
    thread.start()
    try:
        for other in _others(remote, folder, count):
            Lease(remote, f"{folder}/{other}", what).refuse_a_living()
        yield lease
    finally:
        lease.release()
        thread.join()


def _others(remote: Remote, folder: str, count: int) -> list[str]:
    names = (str(one["name"]).rpartition("/")[2] for one in remote.names(folder))
    return [
        name for name in names if name.startswith(".lease-") and name.count("-") == 3 and not name.endswith(f"-of-{count}")
    ]


def _read(remote: Remote, path: str) -> Holder | None:
    try:
        return Holder(**json.loads(remote.read(path)))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError):  # an older or newer program's, or none of ours
        return Holder(0, "unknown", "", "", "")


def _machine() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip() + str(Path("/proc/self/ns/pid").readlink())
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
