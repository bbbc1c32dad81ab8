"""Write pictures in a background thread with a bounded queue, while the network runs."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

_MAX_PENDING = 16  # calls in the queue; each holds a table with the rows of one image


class BackgroundWriter:
    """Background thread that runs calls in order.

    If the `with` block raises an error, the calls that are still pending are cancelled.

    Args:
        name: Name of the thread.
    """

    def __init__(self, name: str) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._pending: list[Future[None]] = []

    def __enter__(self) -> "BackgroundWriter":
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def submit(self, function: Callable[..., None], *arguments: Any) -> None:
        """Queue a call, and wait while too many are pending.

        If an earlier call raised an error, it is raised here.
        """
        self._pending.append(self._pool.submit(function, *arguments))
        self._wait(_MAX_PENDING)

    def finish(self) -> None:
        """Wait until all calls are done. If one of them raised an error, raise it here."""
        self._wait(0)

    def _wait(self, max_pending: int) -> None:
        while len(self._pending) > max_pending:
            self._pending.pop(0).result()
