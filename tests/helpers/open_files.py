"""List the files that this process has open."""

from contextlib import suppress
from pathlib import Path


def list_open_files() -> list[str]:
    """Return the path of each open file. That of a file without a name ends in ` (deleted)`."""
    targets = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # the descriptor of this folder, which is closed by now
            targets.append(str(descriptor.readlink()))
    return targets


def count_nameless_files() -> int:
    """Return how many open files have no name any more, or never had one."""
    return sum(target.endswith("(deleted)") for target in list_open_files())
