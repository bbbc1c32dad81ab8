"""What the pictures of an evaluation have in common: colours, sizes and short texts."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_CLASSES = 100  # in a picture
BLUE, RED, GREY, LIGHT = "#2b6cb0", "#c53030", "#a0aec0", "#e2e8f0"


def describe_shown(shown: int, there: int) -> str:
    """Return how many classes are shown, if not all are."""
    return f" ({shown} of {there:,} classes)" if shown < there else ""


def shorten_count(count: int) -> str:
    """Return a count in few letters: 1234567 -> 1.2M."""
    return next(
        (
            f"{count / size:.3g}{unit}"
            for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k"))
            if count >= size
        ),
        str(count),
    )


def make_figure(size: tuple[float, float]) -> "Figure":
    from matplotlib.figure import Figure  # without pyplot: no window, no global state

    return Figure(figsize=size, layout="constrained")
