"""Count all rows of a run, shard by shard, for the charts of the page."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.core.timing import STAGES
from pipeline.core.types import Status

_SCORE_BINS = 20
# Lower edges, in pixels, of the bins of image sizes.
_SIDES = np.array([0, 64, 128, 256, 512, 1024, 2048, 4096, 8192])
_MANY = 10  # images with at least so many predictions share one bin
_MOST_BARS = 15
_STAGES = {  # the groups run at the same time; the stages of the loop run one after another
    "ahead of the model": ("read", "decode", "transform", "copy"),
    "the loop": ("wait", "forward", "behind"),
    "behind the model": ("rows", "write", "draw"),
}


@dataclass(frozen=True)
class Chart:
    """A chart of counts by label.

    `ticks` are (position in bins, label) of the axis. A chart of horizontal bars has none.
    """

    title: str
    heads: tuple[str, str]  # column heads of the chart's table
    rows: Sequence[tuple[str, int]]
    ticks: Sequence[tuple[float, str]] = ()
    note: str = ""

    @property
    def bars(self) -> Sequence[tuple[str, int]]:
        return self.rows[:_MOST_BARS]

    @property
    def most(self) -> int:
        return max((count for _, count in self.rows), default=0)


@dataclass(frozen=True)
class StageTimes:
    """Time that the stages of a run took. Groups of stages overlap in time."""

    images: int
    seconds: dict[str, dict[str, float]]  # group -> stage -> seconds

    @property
    def most(self) -> float:
        return max(sum(group.values()) for group in self.seconds.values())

    @property
    def rate(self) -> float:
        loop = sum(self.seconds["the loop"].values())
        return self.images / loop if loop else 0.0


class RunStatistics:
    """Counts over all rows that were added."""

    def __init__(self, categories: Sequence[str]) -> None:
        self.categories = categories
        self.statuses: Counter[str] = Counter()
        self.classes = np.zeros(len(categories), np.int64)
        self.scores = np.zeros(_SCORE_BINS, np.int64)
        self.sides = np.zeros(len(_SIDES), np.int64)
        self.per_image = np.zeros(_MANY + 1, np.int64)

    def add(self, images: pa.Table, predictions: pa.Table) -> None:
        """Count the rows of one shard."""
        for row in images["status"].cast(pa.string()).value_counts().to_pylist():
            self.statuses[row["values"]] += row["counts"]
        self.classes += np.bincount(predictions["class_id"].to_numpy(), minlength=len(self.classes))
        scores = np.clip(np.nan_to_num(predictions["score"].to_numpy()), 0, 1)
        self.scores += np.histogram(scores, bins=_SCORE_BINS, range=(0, 1))[0]
        sides = np.maximum(*(images[name].drop_null().to_numpy() for name in ("width", "height")))
        self.sides += np.bincount(
            np.searchsorted(_SIDES, sides, side="right") - 1, minlength=len(_SIDES)
        )
        counts = np.minimum(images["n_predictions"].drop_null().to_numpy(), _MANY)
        self.per_image += np.bincount(counts, minlength=_MANY + 1)

    @property
    def n_images(self) -> int:
        return sum(self.statuses.values())

    @property
    def n_ok(self) -> int:
        return self.statuses[Status.OK.value]

    @property
    def n_duplicates(self) -> int:
        return self.statuses[Status.DUPLICATE.value]

    @property
    def n_failed(self) -> int:
        return self.n_images - self.n_ok - self.n_duplicates

    @property
    def n_predictions(self) -> int:
        return int(self.classes.sum())

    @property
    def n_classes(self) -> int:
        return len(self._by_name())

    def _by_name(self) -> Counter[str]:
        """Count predictions by class name.

        Several classes may have the same name: ImageNet has two classes called crane.
        """
        counted: Counter[str] = Counter()
        for name, count in zip(self.categories, self.classes.tolist(), strict=True):
            counted[name] += count
        return +counted

    def charts(self) -> list[Chart]:
        """Return the charts, without optional ones that would have no bar or only one."""
        charts = [self._classes(), self._scores()]
        charts += [self._per_image()] if np.count_nonzero(self.per_image) > 1 else []
        charts += [self._sides()] if self.sides.any() else []
        charts += (
            [Chart("Images by status", ("status", "images"), self.statuses.most_common())]
            if len(self.statuses) > 1
            else []
        )
        return charts

    def _classes(self) -> Chart:
        rows = self._by_name().most_common()
        rest = sum(count for _, count in rows[_MOST_BARS:])
        note = (
            f"and {rest:,} predictions of {len(rows) - _MOST_BARS:,} other classes" if rest else ""
        )
        return Chart("Predictions by class", ("class", "predictions"), rows, note=note)

    def _scores(self) -> Chart:
        rows = [
            (f"{i / _SCORE_BINS:.2f} to {(i + 1) / _SCORE_BINS:.2f}", int(n))
            for i, n in enumerate(self.scores)
        ]
        ticks = [(i * _SCORE_BINS / 4, f"{i / 4:g}") for i in range(5)]
        return Chart("Predictions by score", ("score", "predictions"), rows, ticks)

    def _per_image(self) -> Chart:
        labels = [*map(str, range(_MANY)), f"{_MANY} or more"]
        ticks = [(i + 0.5, label) for i, label in enumerate([*labels[:-1], f"{_MANY}+"])]
        return Chart(
            "Predictions in an image",
            ("predictions", "images"),
            _rows(labels, self.per_image),
            ticks,
            "Usable images only.",
        )

    def _sides(self) -> Chart:
        labels = [f"{low} to {high - 1}" for low, high in pairwise(_SIDES.tolist())]
        ticks = [(float(i), f"{side}") for i, side in enumerate(_SIDES)]
        title = "Images by their longer side, in pixels"
        return Chart(
            title,
            ("longer side", "images"),
            _rows([*labels, f"{_SIDES[-1]} or more"], self.sides),
            ticks,
        )


def summarize_stages(timings: Iterable[Mapping[str, Any]]) -> StageTimes | None:
    """Sum up the seconds of all shards; return None if no timing is known."""
    images, spent = 0, Counter[str]()
    for timing in timings:
        images += timing.get("images", 0)
        spent.update({name: timing[name] for name in STAGES if name in timing})
    if not images:
        return None
    return StageTimes(
        images, {title: {name: spent[name] for name in names} for title, names in _STAGES.items()}
    )


def _rows(labels: Sequence[str], counts: np.ndarray) -> list[tuple[str, int]]:
    return list(zip(labels, counts.tolist(), strict=True))
