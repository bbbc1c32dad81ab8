"""Identify the process that holds a lease, so that others can tell whether it is alive."""

import os
import socket
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4


@dataclass(frozen=True)
class Holder:
    """The process that holds a lease. Its fields are the JSON content of the lease object."""

    process: int  # process id
    host: str
    machine: str  # boot id and process namespace; empty if unknown
    began: str  # start time of the process, because process ids are reused
    token: str  # random, unique for each lease

    @classmethod
    def for_this_process(cls) -> "Holder":
        """Return this process as the holder of a new lease."""
        process = os.getpid()
        return cls(
            process, socket.gethostname(), _read_machine(), _read_start(process), uuid4().hex
        )

    def is_dead(self) -> bool:
        """Return whether the process is known to have ended. Only its own machine can know."""
        is_here = bool(self.machine) and self.machine == _read_machine()
        return is_here and _read_start(self.process) != self.began

    def __str__(self) -> str:
        return f"process {self.process} on {self.host}"


def _read_machine() -> str:
    """Return an id of this boot and of its process namespace; empty if unknown."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return boot + str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


def _read_start(process: int) -> str:
    """Return the start of a process in ticks since the boot; empty if it has ended."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return ""
    fields = stat.rpartition(")")[2].split()
    is_zombie = fields[0] in "ZX"
    return "" if is_zombie else fields[19]
