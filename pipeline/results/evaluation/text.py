"""Format an evaluation as text for the terminal."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from pipeline.results.evaluation.result import Confusion, Evaluation

_MOST = 8  # number of best classes to list, and of worst classes
_ROWS = (
    "truth",
    "predictions",
    "ap",
    "ap50",
    "iou",
    "top1",
    "top5",
    "f1",
    "threshold",
    "precision",
    "recall",
)


def format_evaluation(found: Evaluation) -> str:
    """Format the figures, the best and worst classes, and the most confused classes."""
    images = found.images
    usable = images.truth - images.duplicates - images.failed - images.not_in_run
    lines = [f"{images.truth:,} images in truth, {usable:,} of them usable in the run"]
    lines += [f"  {note}" for note in found.notes]
    for kind, figures in found.figures.items():
        lines += [
            "",
            _heading(kind, found.settings),
            *_pairs({name: _number(value) for name, value in figures.items()}),
        ]
    lines += ["", *_classes(found)]
    confused = _most_confused(found.confusion)
    if confused:
        unit = ", ".join(filter(None, [found.confusion.unit, found.confusion.how]))
        lines += ["", f"most confused {unit}", *confused]
    return "\n".join(lines)


def _heading(kind: str, settings: Mapping[str, Any]) -> str:
    """Return the heading of a kind of figures, with COCO's thresholds if they apply."""
    if kind not in settings.get("max_detections", ()):
        return kind
    overlap = "OKS" if kind == "keypoints" else "IoU"
    most = settings["max_detections"][kind]
    return f"{kind}: {overlap} 0.50 to 0.95, at most {most} an image and class (COCO)"


def _pairs(values: Mapping[str, str], columns: int = 3) -> list[str]:
    """Format names and figures in several columns, each filled from top to bottom."""
    cells = [f"{name:<20} {value:>7}" for name, value in values.items()]
    height = -(-len(cells) // columns)
    return ["  " + "    ".join(cells[i::height]).rstrip() for i in range(height)]


def _classes(found: Evaluation) -> list[str]:
    """Format a table of the best and the worst classes, as lines.

    Classes without truth are omitted.
    """
    by = next(name for name in ("ap", "iou", "top1") if name in found.rows()[0])
    rows = sorted((row for row in found.rows() if row["truth"]), key=lambda row: -(row[by] or 0.0))
    names = [name for name in _ROWS if name in found.rows()[0]]
    width = max(5, *(len(row["class"]) for row in rows))
    head = "  " + " ".join([f"{'class':<{width}}", *(f"{name:>11}" for name in names)])
    listed = [
        "  "
        + " ".join([f"{row['class']:<{width}}", *(f"{_number(row[name]):>11}" for name in names)])
        for row in rows
    ]
    if len(listed) > 2 * _MOST:
        listed = [
            *listed[:_MOST],
            f"  ... {len(listed) - 2 * _MOST} more in per_class.csv",
            *listed[-_MOST:],
        ]
    note = "; precision and recall at the threshold of the best F1" if "threshold" in names else ""
    return [f"classes by {by}{note}", head, *listed]


def _most_confused(confusion: Confusion, most: int = 5) -> list[str]:
    """Format the pairs of classes that were confused most often, as lines.

    Missed objects and false detections are omitted, because recall and precision show them.
    """
    counts = confusion.counts[:-1, :-1] * ~np.eye(len(confusion.names) - 1, dtype=bool)
    order = np.argsort(-counts, axis=None, kind="stable")[:most]
    pairs = [np.unravel_index(i, counts.shape) for i in order if counts.flat[i]]
    return [
        f"  {counts[t, p]:>7,}  {confusion.names[t]} found as {confusion.names[p]}"
        for t, p in pairs
    ]


def _number(value: float | int | None) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}"
