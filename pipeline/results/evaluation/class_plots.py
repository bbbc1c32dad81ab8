"""Draw figures about single classes: precision-recall curves, and bars of F1 or IoU."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.results.evaluation.average_precision import RECALLS
from pipeline.results.evaluation.plot_helpers import (
    BLUE,
    GREY,
    LIGHT,
    RED,
    describe_shown,
    make_figure,
    shorten_count,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def draw_curves(
    kind: str,
    rows: Sequence[Mapping[str, Any]],
    curves: np.ndarray,
    shown: Sequence[int],
    most: int = 10,
) -> "Figure":
    """Draw a precision-recall curve for the mean of all classes, then one for each class.

    A dot marks the best F1. All panels are drawn on one pair of axes, because a hundred pairs of
    axes take half a minute to draw.

    Args:
        kind: kind of shapes, for the title.
        rows: a row for each class, with its name and figures.
        curves: (101, classes) precision at each recall; NaN for a class without truth.
        shown: positions of the classes to draw.
        most: largest number of panels in a line.
    """
    columns = max(4, min(most, len(shown) + 1))
    lines = -(-(len(shown) + 1) // columns)
    figure = make_figure((max(7.0, 1.4 * columns), 1.55 * lines + 0.6))
    axes = figure.subplots()
    defined = curves[:, ~np.isnan(curves).any(axis=0)]
    _panel(
        axes,
        (0, 0),
        defined.mean(axis=1) if defined.size else np.zeros(len(RECALLS)),
        "all classes (mean)",
        RED,
    )
    for n, i in enumerate(shown, start=1):
        row, at = rows[i], (n % columns, n // columns)
        _panel(axes, at, curves[:, i], row["class"], BLUE)
        if row["f1"] is not None:
            axes.plot(*_within(at, row["recall"], row["precision"]), "o", color=RED, markersize=3)
    axes.set(xlim=(-0.03, columns), ylim=(lines, -0.03))
    axes.set_axis_off()
    over = (
        "one class against the rest"
        if kind == "labels"
        else f"at {'OKS' if kind == 'keypoints' else 'IoU'} 0.5"
    )
    note = describe_shown(len(shown), sum(1 for row in rows if row["truth"]))
    axes.set_title(
        f"{kind}: precision (up) over recall {over}, 0 to 1, and its mean; the dot is the best "
        f"F1{note}",
        fontsize=9,
    )
    return figure


def _panel(
    axes: "Axes", at: tuple[int, int], precision: np.ndarray, name: str, colour: str
) -> None:
    """Draw a class's curve into the panel at (column, line)."""
    for half in (0, 0.5, 1):
        axes.plot(*_within(at, np.array([0, 1]), np.full(2, half)), color=LIGHT, linewidth=0.7)
        axes.plot(*_within(at, np.full(2, half), np.array([0, 1])), color=LIGHT, linewidth=0.7)
    x, y = _within(at, RECALLS, precision)
    axes.plot(x, y, color=colour, linewidth=1)
    axes.fill_between(x, y, _within(at, 0, 0)[1], color=colour, alpha=0.15, linewidth=0)
    title = name if len(name) <= 18 else name[:17] + "…"
    place = _within(at, 0, 1.04)
    axes.text(*place, f"{title}  {precision.mean():.2f}", fontsize=7, va="bottom", parse_math=False)


def _within(at: tuple[int, int], x: Any, y: Any) -> tuple[Any, Any]:
    """Convert panel coordinates (0 to 1, y up) to those of the axes (y down).

    `at` is the column and the line of the panel.
    """
    return at[0] + 0.88 * x, at[1] + 0.95 - 0.78 * y


def draw_bars(figure_name: str, rows: Sequence[Mapping[str, Any]]) -> "Figure":
    """Draw a bar for each class, with the best class on top.

    Marks show precision and recall. A figure of F1 also lists the score thresholds that give them.

    Args:
        figure_name: the column of `rows` that the bars show: "f1" or "iou".
        rows: a row for each class.
    """
    rows = sorted(rows, key=lambda row: row[figure_name] or 0.0)
    figure = make_figure((8, 0.19 * len(rows) + 1.8))
    axes = figure.subplots()
    at = np.arange(len(rows))
    axes.barh(
        at,
        [row[figure_name] or 0.0 for row in rows],
        color=GREY,
        height=0.75,
        label={"f1": "F1", "iou": "IoU"}[figure_name],
    )
    for name, mark, colour in (("precision", ">", BLUE), ("recall", "<", RED)):
        axes.plot(
            [np.nan if row[name] is None else row[name] for row in rows],
            at,
            mark,
            color=colour,
            markersize=4,
            label=name,
        )
    axes.set_yticks(
        at,
        [f"{row['class']}  ({shorten_count(row['truth'])})" for row in rows],
        fontsize=8,
        parse_math=False,
    )
    axes.set(
        xlim=(0, 1.02),
        ylim=(-0.7, len(rows) - 0.3),
        xlabel="in brackets: how many pixels are in truth",
    )
    if figure_name == "f1":
        right = axes.secondary_yaxis("right")
        right.set_yticks(
            at,
            ["" if row["threshold"] is None else f"{row['threshold']:.3f}" for row in rows],
            fontsize=8,
        )
        axes.set_xlabel(
            "in brackets: how many are in truth; on the right: the score threshold of the best F1",
            fontsize=9,
        )
    figure.legend(loc="outside upper center", ncols=3, fontsize=8)
    return figure
