"""Draw the figures of an evaluation.

If there are more than MOST_CLASSES classes, the most frequent ones in truth are drawn.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.results.evaluation.class_plots import draw_bars, draw_curves
from pipeline.results.evaluation.confusion_plot import draw_confusion
from pipeline.results.evaluation.plot_helpers import MOST_CLASSES
from pipeline.results.evaluation.result import Evaluation

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def save_evaluation_plots(found: Evaluation, folder: Path) -> None:
    """Write confusion.png, precision_recall.png and f1.png into a folder.

    For segmentation, iou.png replaces the last two.
    """
    _save(draw_confusion(found.confusion), folder / "confusion.png")
    rows = found.rows()
    shown = sorted(
        (i for i, row in enumerate(rows) if row["truth"]), key=lambda i: -rows[i]["truth"]
    )[:MOST_CLASSES]
    if found.curves is not None:
        _save(draw_curves(found.kind, rows, found.curves, shown), folder / "precision_recall.png")
        _save(draw_bars("f1", [rows[i] for i in shown]), folder / "f1.png")
    else:
        _save(draw_bars("iou", [rows[i] for i in shown]), folder / "iou.png")


def _save(figure: "Figure", path: Path) -> None:
    # Without this entry, equal figures give equal bytes.
    figure.savefig(path, dpi=120, metadata={"Software": None})
