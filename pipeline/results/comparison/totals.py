"""Sum up the changes of all windows, for summary.json and for the terminal."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core.text_tables import format_columns
from pipeline.results.comparison.changes import ImageChanges
from pipeline.results.comparison.row_fates import (
    ADDED,
    CHANGED,
    DUPLICATE,
    LOST,
    ONLY_AFTER,
    ONLY_BEFORE,
    RENAMED,
    SAME,
    SHIFTED,
    UNCHANGED,
)

_MOST_TOLD = 10
# Measures that sort images with equally many changed predictions, and their wording.
_BY = {
    "max_score_shift": "scores by up to {:.4f}",
    "max_box_shift": "boxes by up to {:.1f} px",
    "embedding_distance": "embedding by {:.4f}",
}


class ChangeTotals:
    """Sums of the changes of all windows so far. Memory use does not grow with the windows."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names
        self.images: Counter[str] = Counter()
        self.fates: Counter[str] = Counter()
        self.classes = np.zeros((len(names), 4), dtype=np.int64)
        self.became: Counter[tuple[str, str]] = Counter()
        self.pairs, self.shift_sum, self.shift_most = 0, 0.0, 0.0
        self.most_changed: list[dict[str, Any]] = []  # rows of images

    def add(self, changes: ImageChanges) -> None:
        """Add the changes of one window."""
        self.images.update(
            {
                row["values"]: row["counts"]
                for row in changes.images["change"].value_counts().to_pylist()
            }
        )
        self.fates.update(changes.fates)
        self.classes += changes.classes
        pairs, counts = np.unique(changes.became, axis=0, return_counts=True)
        self.became.update(
            {
                (self.names[a], self.names[b]): n
                for (a, b), n in zip(pairs.tolist(), counts.tolist(), strict=True)
            }
        )
        self.pairs += len(changes.score_shifts)
        self.shift_sum += float(changes.score_shifts.sum())
        self.shift_most = max(self.shift_most, float(np.abs(changes.score_shifts).max(initial=0)))
        self._remember(changes.images)

    def _remember(self, images: pa.Table) -> None:
        """Update the list of the most changed images."""
        changed = images.filter(pc.equal(images["change"], CHANGED))
        measures = [changed[name].fill_null(0).to_numpy() for name in _BY]
        moved = sum(changed[name].to_numpy() for name in (ADDED, LOST, RENAMED))
        order = np.lexsort((*(-values for values in measures[::-1]), -moved))[:_MOST_TOLD]
        rows = [*self.most_changed, *changed.take(order).to_pylist()]
        self.most_changed = sorted(rows, key=_much, reverse=True)[:_MOST_TOLD]

    @property
    def in_both(self) -> int:
        return self.images[CHANGED] + self.images[UNCHANGED]

    @property
    def mean_shift(self) -> float:
        return self.shift_sum / self.pairs if self.pairs else 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return the totals as the content of summary.json."""
        return {
            "images": {
                kind: self.images[kind]
                for kind in (UNCHANGED, CHANGED, ONLY_BEFORE, ONLY_AFTER, DUPLICATE)
            },
            "predictions": {
                kind: self.fates[kind] for kind in (SAME, SHIFTED, RENAMED, ADDED, LOST)
            },
            "score_shift": {"mean": self.mean_shift, "max": self.shift_most},
            "classes": self._classes(),
            "became": [
                {"before": a, "after": b, "predictions": n}
                for (a, b), n in self.became.most_common()
            ],
        }

    def _classes(self) -> list[dict[str, Any]]:
        """Return a row for each class that a run predicted, the most frequent first."""
        came, went = Counter[str](), Counter[str]()
        for (a, b), n in self.became.items():
            went[a] += n
            came[b] += n
        rows = [
            dict(zip(("class", "before", "after", "added", "lost"), (name, *row), strict=True))
            | {"from_another": came[name], "to_another": went[name]}
            for name, row in zip(self.names, self.classes.tolist(), strict=True)
            if row[0] or row[1]
        ]
        return sorted(rows, key=lambda row: -max(row["before"], row["after"]))

    def headline(self) -> str:
        """Return the number of changed images, and which images were not compared."""
        text = f"{self.images[CHANGED]:,} of {self.in_both:,} images changed."
        alone = [
            (self.images[kind], side)
            for kind, side in ((ONLY_BEFORE, "before"), (ONLY_AFTER, "after"))
        ]
        text += "".join(
            f" {n:,} are in the run {side} only, and are not counted below."
            for n, side in alone
            if n
        )
        n = self.images[DUPLICATE]
        return text + (
            f" {n:,} are duplicates that a run has not looked at, and are not counted below."
            if n
            else ""
        )

    def text(self) -> str:
        """Format the totals as lines of text for the terminal."""
        fates = self.fates
        lines = [
            f"predictions: {fates[SAME]:,} the same, {fates[SHIFTED]:,} shifted, "
            f"{fates[RENAMED]:,} of another class, "
            f"{fates[ADDED]:,} added, {fates[LOST]:,} lost"
        ]
        if self.pairs:
            lines.append(
                f"score after - before: {self.mean_shift:+.4f} (mean), {self.shift_most:.4f} "
                "(largest, either way)"
            )
        lines += ["", *_table(self._classes(), _MOST_TOLD + 5)] if self.classes.any() else []
        if self.became:
            lines += ["", "another class"]
            lines += [f"  {a} -> {b}: {n:,}" for (a, b), n in self.became.most_common(_MOST_TOLD)]
        if self.most_changed:
            lines += ["", "most changed images", *map(_one, self.most_changed)]
        return "\n".join(lines)


def _much(image: dict[str, Any]) -> tuple[float, ...]:
    """Return the sort key of an image: the size of its changes."""
    return image[ADDED] + image[LOST] + image[RENAMED], *(image[name] or 0.0 for name in _BY)


def _one(image: dict[str, Any]) -> str:
    """Format one image's changes as a line of text."""
    kinds = {ADDED: "added", LOST: "lost", RENAMED: "of another class"}
    changes = [f"{image[kind]} {words}" for kind, words in kinds.items() if image[kind]]
    if image["status_before"] != image["status_after"]:
        changes.insert(0, f"{image['status_before']} -> {image['status_after']}")
    for name, words in _BY.items():
        changes += [words.format(image[name])] if image[name] else []
    return f"  {image['key']!r}: {', '.join(changes) or 'see images.parquet'}"


def _table(rows: Sequence[dict[str, Any]], most: int) -> list[str]:
    """Format at most `most` rows as the lines of a table."""
    shown = [
        [f"{value:,}" if isinstance(value, int) else value for value in row.values()]
        for row in rows[:most]
    ]
    table = [[name.replace("_", " ") for name in rows[0]], *shown]
    return format_columns(table).splitlines() + (
        [f"... and {len(rows) - most} more classes, in summary.json"] if len(rows) > most else []
    )
