"""Simulate a disk that fails, or a machine that stops, at the n-th operation on the run folder."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

OPERATIONS = ("fsync", "replace", "rename", "mkdir", "unlink", "rmdir", "symlink")


@contextmanager
def failing(at: int, fail: Callable[[str], None], below: Path) -> Iterator[list[str]]:
    """Call `fail` instead of the n-th and every later operation below a folder.

    Operations that change names are counted, and every fsync.

    Args:
        at: Number of the first operation that fails; the first operation is 1.
        fail: Called with the name of the operation.
        below: The folder.

    Returns:
        A context manager that yields the growing list of operations so far.
    """
    done: list[str] = []
    real = {name: getattr(os, name) for name in OPERATIONS}

    def counting(name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            if name == "fsync" or any(
                str(below) in os.fsdecode(argument)
                for argument in arguments
                if not isinstance(argument, int)
            ):
                done.append(name)
                if len(done) >= at:
                    fail(name)
            return real[name](*arguments, **options)

        return call

    for name in OPERATIONS:
        setattr(os, name, counting(name))
    try:
        yield done
    finally:
        for name, function in real.items():
            setattr(os, name, function)
