"""Draw a confusion matrix."""

from typing import TYPE_CHECKING

import numpy as np

from pipeline.results.evaluation.plot_helpers import (
    LIGHT,
    MOST_CLASSES,
    describe_shown,
    make_figure,
    shorten_count,
)
from pipeline.results.evaluation.result import Confusion

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_confusion(confusion: Confusion) -> "Figure":
    """Draw a square for each pair of classes, coloured by its share of the true class.

    Counts are printed in the squares if there are at most 40 classes.
    """
    counts, names = _largest(confusion)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    n = len(names)
    side = max(4.5, 0.19 * n + 2.5)
    figure = make_figure((side + 0.8, side))
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    size = 9 if n <= 20 else 7
    axes.set_xticks(range(n), names, fontsize=size, parse_math=False, rotation=90)
    axes.set_yticks(range(n), names, fontsize=size, parse_math=False)
    axes.set_xticks(np.arange(n + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(n + 1) - 0.5, minor=True)
    axes.grid(which="minor", color=LIGHT, linewidth=0.5)
    axes.tick_params(which="minor", length=0)
    axes.set_xlabel("found as")
    axes.set_ylabel("truth")
    shown = describe_shown(n - 1, len(confusion.names) - 1)
    axes.set_title(
        f"{confusion.unit} as a share of the truth's class{shown}\n{confusion.how}", fontsize=10
    )
    for t, p in zip(*np.nonzero(counts), strict=True) if n <= 40 else ():
        colour = "white" if shares[t, p] > 0.5 else "black"
        axes.text(
            p,
            t,
            shorten_count(counts[t, p]),
            ha="center",
            va="center",
            fontsize=7 if n <= 20 else 5,
            color=colour,
        )
    figure.colorbar(image, fraction=0.03, pad=0.01)
    return figure


def _largest(confusion: Confusion) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return the counts and names of the most frequent classes, and of the last row ("nothing").

    Classes that do not occur are left out. At most MOST_CLASSES are returned.
    """
    total = confusion.counts[:-1].sum(axis=1) + confusion.counts[:, :-1].sum(axis=0)
    order = np.argsort(-total, kind="stable")[:MOST_CLASSES]
    kept = np.r_[np.sort(order[total[order] > 0]), len(total)]
    return confusion.counts[np.ix_(kept, kept)], tuple(confusion.names[i] for i in kept)
