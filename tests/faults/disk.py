"""A disk that fails, or a machine that stops, at the n-th operation on the run folder."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

OPERATIONS = ("fsync", "replace", "rename", "mkdir", "unlink", "rmdir", "symlink")


@contextmanager
def failing(at: int, fail: Callable[[str], None], below: Path) -> Iterator[list[str]]:
    """Call `fail` in place of the n-th operation of this process on what is below the folder, and of every later one: a
    broken disk does not mend itself. Yields the operations so far. Counted are those that change names, and every fsync."""
    done: list[str] = []
    real = {name: getattr(os, name) for name in OPERATIONS}

    def counting(name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            if name == "fsync" or any(
                str(below) in os.fsdecode(one) for one in arguments if not isinstance(one, int)
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
