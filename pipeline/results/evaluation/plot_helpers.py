"""Colours, sizes and short texts that the figures of an evaluation share."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_CLASSES = 100  # largest number of classes in a figure
BLUE, RED, GREY, LIGHT = "#2b6cb0", "#c53030", "#a0aec0", "#e2e8f0"


def describe_shown(shown: int, there: int) -> str:
    """Return a note on how many classes are shown; empty if all are."""
    return f" ({shown} of {there:,} classes)" if shown < there else ""


def shorten_count(count: int) -> str:
    """Format a count in at most three significant digits: 1234567 -> 1.23M."""
    return next(
        (
            f"{count / size:.3g}{unit}"
            for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k"))
            if count >= size
        ),
        str(count),
    )


def make_figure(size: tuple[float, float]) -> "Figure":
    """Make an empty figure of (width, height) inches."""
    from matplotlib.figure import Figure  # without pyplot: no window, no global state

    return Figure(figsize=size, layout="constrained")
