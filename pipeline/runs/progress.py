"""The progress bar of a run."""

import os
import sys
from collections.abc import Sequence
from threading import Event, Thread
from types import TracebackType

from tqdm import tqdm

from pipeline.core.inflight import InFlightTable
from pipeline.core.types import Item

_LONG_S = 5  # in work, after which the bar shows an input


class ProgressBar:
    """Shows images/s, errors so far and the time left.

    Silent if `quiet` or if stderr is no terminal.

    A thread refreshes the bar each second, also while no image is finished, and shows how long
    inputs have been in work.

    Args:
        done: Images that were finished before this session.
        total: Images of all shards of this process.
        quiet: Show nothing.
        in_flight: The table of inputs in work.
    """

    def __init__(
        self, done: int, total: int, quiet: bool, in_flight: InFlightTable | None = None
    ) -> None:
        self.images = self.errors = 0  # of this session
        disable = quiet or not sys.stderr.isatty()
        # tqdm shows no bar on a terminal that reports a size of 0 x 0.
        has_no_size = not disable and os.get_terminal_size(sys.stderr.fileno()).lines == 0
        shape = {"ncols": 80, "nrows": 24} if has_no_size else {"dynamic_ncols": True}
        self._bar = tqdm(
            total=total, initial=done, unit=" images", disable=disable, smoothing=0.1, **shape
        )

        self._in_flight, self._ended = in_flight or InFlightTable(), Event()
        self._refresher = (
            None if disable else Thread(target=self._refresh, name="progress", daemon=True)
        )

    def __enter__(self) -> "ProgressBar":
        if self._refresher:
            self._refresher.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ended.set()
        if self._refresher:
            self._refresher.join()
        self._bar.close()

    def add_retried(self, items: Sequence[Item]) -> None:
        """Count images that the bar counted before, as errors."""
        self.images += len(items)

    def add_items(self, items: Sequence[Item]) -> None:
        """Count finished items."""
        self.add(len(items), sum(item.status.is_error for item in items))

    def add(self, images: int, errors: int) -> None:
        """Count images, and how many of them failed."""
        self.images += images
        self.errors += errors
        self._bar.set_postfix_str(f"{self.errors} errors", refresh=False)
        self._bar.update(images)

    def report_commit(self, shard_id: int, images: int, errors: int) -> None:
        """Do nothing, because the bar counts images. A worker reports committed shards here."""

    def _refresh(self) -> None:
        while not self._ended.wait(1.0):
            images, seconds = self._in_flight.find_longest_running()
            waiting = f", {images} images in hand for {seconds:.0f} s" if seconds > _LONG_S else ""
            self._bar.set_postfix_str(f"{self.errors} errors{waiting}", refresh=True)
