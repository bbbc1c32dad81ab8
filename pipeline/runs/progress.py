"""What a person sees while a run goes on."""

import os
import sys
from collections.abc import Sequence
from threading import Event, Thread
from types import TracebackType

from tqdm import tqdm

from pipeline.core.inflight import InFlightTable
from pipeline.core.types import Item

_LONG_S = 5


class ProgressBar:
    """A bar with images/s, errors so far and time left; silent when stderr is not a terminal or `quiet`. It lives while
    nothing advances too: each second it tells the time, and on what a thread has been for long."""

    def __init__(
        self, done: int, total: int, quiet: bool, board: InFlightTable | None = None
    ) -> None:
        self.images = self.errors = 0  # of this session
        disable = quiet or not sys.stderr.isatty()
        # a terminal that does not tell its size (0 x 0) would get no bar at all
        sizeless = not disable and os.get_terminal_size(sys.stderr.fileno()).lines == 0
        shape = {"ncols": 80, "nrows": 24} if sizeless else {"dynamic_ncols": True}
        self._bar = tqdm(
            total=total, initial=done, unit=" images", disable=disable, smoothing=0.1, **shape
        )

        self._board, self._ended = board or InFlightTable(), Event()
        self._heart = None if disable else Thread(target=self._beat, name="heartbeat", daemon=True)

    def __enter__(self) -> "ProgressBar":
        if self._heart:
            self._heart.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ended.set()
        if self._heart:
            self._heart.join()
        self._bar.close()

    def add_retried(self, items: Sequence[Item]) -> None:
        """Images that were counted before, as errors."""
        self.images += len(items)

    def add_items(self, items: Sequence[Item]) -> None:
        self.add(len(items), sum(item.status.is_error for item in items))

    def add(self, images: int, errors: int) -> None:
        self.images += images
        self.errors += errors
        self._bar.set_postfix_str(f"{self.errors} errors", refresh=False)
        self._bar.update(images)

    def report_commit(self, shard_id: int, images: int, errors: int) -> None:
        """A shard is on the disk. The bar counts images, as they come."""

    def _beat(self) -> None:
        while not self._ended.wait(1.0):
            images, seconds = self._board.find_longest_running()
            waiting = f", {images} images in hand for {seconds:.0f} s" if seconds > _LONG_S else ""
            self._bar.set_postfix_str(f"{self.errors} errors{waiting}", refresh=True)
