"""Pictures beside the next forward pass: one thread, and no more work waiting for it than fits in memory."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any

_MAX_PENDING = 16  # pieces that may wait: each holds a table with one image's rows


class BackgroundWriter:
    """One thread that does what is handed over, in order. What waits when its `with` block raises is not done."""

    def __init__(self, name: str) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._pending: list[Future[None]] = []

    def __enter__(self) -> "BackgroundWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def submit(self, work: Callable[..., None], *arguments: Any) -> None:
        """Hand over one piece, and wait while too many are pending. Raises what an earlier one raised."""
        self._pending.append(self._pool.submit(work, *arguments))
        self._wait(_MAX_PENDING)

    def finish(self) -> None:
        """Until all is done. Raises what one of them raised."""
        self._wait(0)

    def _wait(self, most: int) -> None:
        while len(self._pending) > most:
            self._pending.pop(0).result()
