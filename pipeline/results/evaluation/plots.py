"""Draw an evaluation: legible with 80 classes, and with more those that truth has most of."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.results.evaluation.average_precision import RECALLS
from pipeline.results.evaluation.result import Confusion, Evaluation

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST = 100  # classes in a picture
_BLUE, _RED, _GREY, _LIGHT = "#2b6cb0", "#c53030", "#a0aec0", "#e2e8f0"


def save_evaluation_plots(found: Evaluation, folder: Path) -> None:
    """Write confusion.png, and precision_recall.png and f1.png, or iou.png for pixels."""
    _save(draw_confusion(found.confusion), folder / "confusion.png")
    rows = found.rows()
    shown = sorted(
        (i for i, row in enumerate(rows) if row["truth"]), key=lambda i: -rows[i]["truth"]
    )[:_MOST]
    if found.curves is not None:
        _save(draw_curves(found.kind, rows, found.curves, shown), folder / "precision_recall.png")
        _save(draw_bars("f1", [rows[i] for i in shown]), folder / "f1.png")
    else:
        _save(draw_bars("iou", [rows[i] for i in shown]), folder / "iou.png")


def draw_confusion(confusion: Confusion) -> "Figure":
    """Draw a square for each pair, as a share of the truth's class; numbers if there is room."""
    counts, names = _largest(confusion)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    n = len(names)
    side = max(4.5, 0.19 * n + 2.5)
    figure = _figure((side + 0.8, side))
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    size = 9 if n <= 20 else 7
    axes.set_xticks(range(n), names, fontsize=size, parse_math=False, rotation=90)
    axes.set_yticks(range(n), names, fontsize=size, parse_math=False)
    axes.set_xticks(np.arange(n + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(n + 1) - 0.5, minor=True)
    axes.grid(which="minor", color=_LIGHT, linewidth=0.5)
    axes.tick_params(which="minor", length=0)
    axes.set_xlabel("found as")
    axes.set_ylabel("truth")
    shown = _told(n - 1, len(confusion.names) - 1)
    axes.set_title(
        f"{confusion.unit} as a share of the truth's class{shown}\n{confusion.how}", fontsize=10
    )
    for t, p in zip(*np.nonzero(counts), strict=True) if n <= 40 else ():
        colour = "white" if shares[t, p] > 0.5 else "black"
        axes.text(
            p,
            t,
            _short(counts[t, p]),
            ha="center",
            va="center",
            fontsize=7 if n <= 20 else 5,
            color=colour,
        )
    figure.colorbar(image, fraction=0.03, pad=0.01)
    return figure


def draw_curves(
    kind: str,
    rows: Sequence[Mapping[str, Any]],
    curves: np.ndarray,
    shown: Sequence[int],
    most: int = 10,
) -> "Figure":
    """Draw precision over recall, both from 0 to 1: the mean of all classes, then each class.

    A dot marks the best F1. All panels are drawn on one pair of axes, because a hundred pairs take
    half a minute.
    """
    columns = max(4, min(most, len(shown) + 1))
    lines = -(-(len(shown) + 1) // columns)
    figure = _figure((max(7.0, 1.4 * columns), 1.55 * lines + 0.6))
    axes = figure.subplots()
    defined = curves[:, ~np.isnan(curves).any(axis=0)]
    _panel(
        axes,
        (0, 0),
        defined.mean(axis=1) if defined.size else np.zeros(len(RECALLS)),
        "all classes (mean)",
        _RED,
    )
    for n, i in enumerate(shown, start=1):
        row, at = rows[i], (n % columns, n // columns)
        _panel(axes, at, curves[:, i], row["class"], _BLUE)
        if row["f1"] is not None:
            axes.plot(*_within(at, row["recall"], row["precision"]), "o", color=_RED, markersize=3)
    axes.set(xlim=(-0.03, columns), ylim=(lines, -0.03))
    axes.set_axis_off()
    over = (
        "one class against the rest"
        if kind == "labels"
        else f"at {'OKS' if kind == 'keypoints' else 'IoU'} 0.5"
    )
    told = _told(len(shown), sum(1 for row in rows if row["truth"]))
    axes.set_title(
        f"{kind}: precision (up) over recall {over}, 0 to 1, and its mean; the dot is the best F1{told}",
        fontsize=9,
    )
    return figure


def _panel(
    axes: "Axes", at: tuple[int, int], precision: np.ndarray, name: str, colour: str
) -> None:
    """Draw one curve into its panel."""
    for half in (0, 0.5, 1):
        axes.plot(*_within(at, np.array([0, 1]), np.full(2, half)), color=_LIGHT, linewidth=0.7)
        axes.plot(*_within(at, np.full(2, half), np.array([0, 1])), color=_LIGHT, linewidth=0.7)
    x, y = _within(at, RECALLS, precision)
    axes.plot(x, y, color=colour, linewidth=1)
    axes.fill_between(x, y, _within(at, 0, 0)[1], color=colour, alpha=0.15, linewidth=0)
    title = name if len(name) <= 18 else name[:17] + "…"
    place = _within(at, 0, 1.04)
    axes.text(*place, f"{title}  {precision.mean():.2f}", fontsize=7, va="bottom", parse_math=False)


def _within(at: tuple[int, int], x: Any, y: Any) -> tuple[Any, Any]:
    """Map 0..1 in the panel of this column and line to the axes, whose y goes down."""
    return at[0] + 0.88 * x, at[1] + 0.95 - 0.78 * y


def draw_bars(figure_name: str, rows: Sequence[Mapping[str, Any]]) -> "Figure":
    """Draw a bar for each class, the best on top.

    For F1 also precision, recall and the threshold that gives them.
    """
    rows = sorted(rows, key=lambda row: row[figure_name] or 0.0)
    figure = _figure((8, 0.19 * len(rows) + 1.8))
    axes = figure.subplots()
    at = np.arange(len(rows))
    axes.barh(
        at,
        [row[figure_name] or 0.0 for row in rows],
        color=_GREY,
        height=0.75,
        label={"f1": "F1", "iou": "IoU"}[figure_name],
    )
    for name, mark, colour in (("precision", ">", _BLUE), ("recall", "<", _RED)):
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
        [f"{row['class']}  ({_short(row['truth'])})" for row in rows],
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


def _largest(confusion: Confusion) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return the classes that occur, at most as many as a picture shows, and `nothing`."""
    total = confusion.counts[:-1].sum(axis=1) + confusion.counts[:, :-1].sum(axis=0)
    order = np.argsort(-total, kind="stable")[:_MOST]
    kept = np.r_[np.sort(order[total[order] > 0]), len(total)]
    return confusion.counts[np.ix_(kept, kept)], tuple(confusion.names[i] for i in kept)


def _told(shown: int, there: int) -> str:
    """Return how many classes are shown, if not all are."""
    return f" ({shown} of {there:,} classes)" if shown < there else ""


def _short(count: int) -> str:
    """Return a count in few letters: 1234567 -> 1.2M."""
    return next(
        (
            f"{count / size:.3g}{unit}"
            for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k"))
            if count >= size
        ),
        str(count),
    )


def _figure(size: tuple[float, float]) -> "Figure":
    from matplotlib.figure import Figure  # without pyplot: no window, no global state

    return Figure(figsize=size, layout="constrained")


def _save(figure: "Figure", path: Path) -> None:
    figure.savefig(
        path, dpi=120, metadata={"Software": None}
    )  # the same figures give the same bytes
