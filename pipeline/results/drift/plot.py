"""Draw the distributions of two runs."""

from pathlib import Path
from typing import Any

import numpy as np

from pipeline.results.drift.distributions import CLASS, Distributions

_COLUMNS, _CLASSES, _BINS = 3, 15, 40
_REFERENCE, _NEW = "#a0aec0", "#c53030"


def save_distribution_plot(reference: Distributions, new: Distributions, path: Path) -> None:
    """Draw one panel for the classes and one for each numeric distribution.

    The reference is drawn as filled bars, the new run as an outline. Heights are shares.
    """
    from matplotlib.figure import Figure  # without pyplot: no window, no global state

    names = [
        name
        for name, values in reference.numbers.items()
        if len(values) and len(new.numbers.get(name, ()))
    ]
    rows = -(-(len(names) + 1) // _COLUMNS)
    figure = Figure(figsize=(4.2 * _COLUMNS, 3.2 * rows), layout="constrained")
    panels = figure.subplots(rows, _COLUMNS, squeeze=False).flat
    _classes(panels[0], reference, new)
    for axes, name in zip(panels[1:], names, strict=False):
        samples = reference.numbers[name], new.numbers[name]
        bins = _bins(np.concatenate(samples))
        for values, how in zip(
            samples, ({"color": _REFERENCE}, {"color": _NEW, "histtype": "step"}), strict=True
        ):
            axes.hist(values, bins=bins, weights=np.full(len(values), 1 / len(values)), **how)
        axes.set_title(name)
    for axes in panels[len(names) + 1 :]:
        axes.remove()
    figure.savefig(path, metadata={"Software": None})


def _bins(values: np.ndarray) -> np.ndarray:
    """Return the edges of the histogram's bins.

    Integers of a small range get one bin each, because bins of other widths would leave some bins
    empty.
    """
    if values.dtype.kind == "i" and np.ptp(values) < _BINS:
        return np.arange(values.min(), values.max() + 2) - 0.5
    return np.histogram_bin_edges(values.astype(np.float64), bins=_BINS)


def _classes(axes: Any, reference: Distributions, new: Distributions) -> None:
    """Draw the shares of the most frequent classes."""
    before, after = reference.shares[CLASS], new.shares[CLASS]
    most = [name for name, _ in (before + after).most_common(_CLASSES)]
    at = np.arange(len(most))
    for counts, shift, colour, label in (
        (before, -0.2, _REFERENCE, "reference"),
        (after, 0.2, _NEW, "run"),
    ):
        axes.barh(
            at + shift,
            [counts[name] / max(counts.total(), 1) for name in most],
            0.4,
            color=colour,
            label=label,
        )
    axes.set_yticks(at, most, parse_math=False)
    axes.invert_yaxis()
    axes.set_title("class")
    axes.legend()
