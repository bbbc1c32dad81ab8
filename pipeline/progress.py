"""What a person sees while a run goes on."""

import os
import sys
from collections.abc import Sequence
from types import TracebackType

from tqdm import tqdm

from pipeline.types import Item, Status


class Progress:
    """A bar with images/s, errors so far and time left; silent when stderr is not a terminal or `quiet`."""

    def __init__(self, done: int, total: int, quiet: bool) -> None:
        self.images = self.errors = 0  # of this session
        disable = quiet or not sys.stderr.isatty()
        # a terminal that does not tell its size (0 x 0) would get no bar at all
        sizeless = not disable and os.get_terminal_size(sys.stderr.fileno()).lines == 0
        shape = {"ncols": 80, "nrows": 24} if sizeless else {"dynamic_ncols": True}
        self._bar = tqdm(total=total, initial=done, unit=" images", disable=disable, smoothing=0.1, **shape)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bar.close()

    def retried(self, items: Sequence[Item]) -> None:
        """Images that were counted before, as errors."""
        self.images += len(items)

    def advance(self, items: Sequence[Item]) -> None:
        self.images += len(items)
        self.errors += sum(item.status is not Status.OK for item in items)
        self._bar.set_postfix_str(f"{self.errors} errors", refresh=False)
        self._bar.update(len(items))
