"""The progress bar of a training, with the mean losses of each epoch."""

import logging
import sys
from collections import defaultdict
from collections.abc import Mapping

from tqdm import tqdm

_SHOWN = logging.getLogger("pipeline")


class ProgressBar:
    """A progress bar that also averages the loss terms.

    It is shown if stderr is a terminal and log_level is info or lower.
    """

    def __init__(self, step: int, total: int) -> None:
        quiet = not sys.stderr.isatty() or not _SHOWN.isEnabledFor(logging.INFO)
        self._bar = tqdm(
            total=total,
            initial=step,
            unit=" steps",
            disable=quiet,
            dynamic_ncols=True,
            smoothing=0.1,
        )
        self._sums: defaultdict[str, float] = defaultdict(float)
        self._steps = 0

    def __enter__(self) -> "ProgressBar":
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()

    def step(self, losses: Mapping[str, float]) -> None:
        """Advance by one step. `losses` is empty if the batch had too few readable images."""
        for name, value in losses.items():
            self._sums[name] += value
        self._steps += bool(losses)
        self._bar.set_postfix_str(f"loss {sum(losses.values()):.3f}", refresh=False)
        self._bar.update(1)

    def epoch(self) -> str:
        """Return the mean loss since the last call as text, with its terms if there are several."""
        means = {name: value / max(1, self._steps) for name, value in self._sums.items()}
        self._sums.clear()
        self._steps = 0
        parts = ", ".join(f"{name} {value:.3f}" for name, value in means.items())
        return f"loss {sum(means.values()):.3f}" + (f" ({parts})" if len(means) > 1 else "")
