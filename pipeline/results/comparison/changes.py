"""Find what became of a run's rows in another run: they stayed, came, went or changed class."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core.schema import BOX_COLUMNS
from pipeline.core.tables import mark_duplicates
from pipeline.results.comparison.aligned_reader import AlignedImages, RunTables
from pipeline.results.comparison.matchers import ComparedRows, RowMatcher, RowPairs, select_rows

UNCHANGED, CHANGED, ONLY_BEFORE, ONLY_AFTER = (
    "unchanged",
    "changed",
    "only_before",
    "only_after",
)  # of an image
DUPLICATE = (
    "duplicate"  # of an image too: in one of the runs it is, so that this one has not looked at it
)
SAME, ADDED, LOST, RENAMED, SHIFTED = (
    "same",
    "added",
    "lost",
    "another_class",
    "shifted",
)  # of a prediction


@dataclass(frozen=True)
class Tolerance:
    """Differences up to which two rows say the same."""

    score: float
    box: float  # pixels
    mask: float  # 1 - IoU
    embedding: float  # cosine distance

    def __str__(self) -> str:
        """Return it as it is given on the command line."""
        return "{" + ", ".join(f"{name}: {value:g}" for name, value in vars(self).items()) + "}"


@dataclass(frozen=True)
class ImageChanges:
    """The changes in one window. Predictions are those of images that both runs have looked at."""

    images: pa.Table  # one row for each key
    predictions: pa.Table  # one row for each that is not the same
    fates: dict[str, int]  # SAME, ADDED ... -> number of predictions, a pair being one
    classes: np.ndarray  # (C, 4): before, after, added, lost
    became: np.ndarray  # (R, 2): class before, class after, where they differ
    score_shifts: np.ndarray  # (S,) after - before, of the pairs of one class


@dataclass(frozen=True)
class _Fates:
    """(F,) each: all predictions of both runs, a pair being one."""

    kind: np.ndarray  # SAME, ADDED ...
    at: np.ndarray  # position of the image
    before: np.ndarray  # row, -1 for what was added
    after: np.ndarray  # row, -1 for what was lost
    iou: np.ndarray  # NaN where there is no pair or no shape


def find_changes(
    window: AlignedImages, matcher: RowMatcher, names: pa.Array, tolerance: Tolerance
) -> ImageChanges:
    """Compare the rows of one window. `names`: the classes of both runs, each once."""
    in_both = _known(window.before) & _known(window.after) & ~_duplicate(window)
    before, after = (
        select_rows(side, matcher, names, in_both) for side in (window.before, window.after)
    )
    found = matcher.match(before, after)
    fates = _fates(before, after, found, tolerance)
    renamed, same_class = (
        fates.kind == RENAMED,
        before.classes[found.before] == after.classes[found.after],
    )
    of_class = [before.classes, after.classes, after.classes[fates.after[fates.kind == ADDED]]]
    of_class.append(before.classes[fates.before[fates.kind == LOST]])
    return ImageChanges(
        images=_images(window, fates, _measured(before, after, found, len(in_both))),
        predictions=_predictions(window.keys, names, before, after, fates),
        fates={
            kind: int((fates.kind == kind).sum()) for kind in (SAME, ADDED, LOST, RENAMED, SHIFTED)
        },
        classes=np.stack(
            [np.bincount(classes, minlength=len(names)) for classes in of_class], axis=1
        ),
        became=np.stack(
            [before.classes[fates.before[renamed]], after.classes[fates.after[renamed]]], axis=1
        ),
        score_shifts=(after.scores[found.after] - before.scores[found.before])[same_class],
    )


def _known(side: RunTables) -> np.ndarray:
    """Return (N,) bool: which of the window's images the run has."""
    known: np.ndarray = pc.is_valid(side.images["key"]).to_numpy()
    return known


def _duplicate(window: AlignedImages) -> np.ndarray:
    """Return (N,) bool: which images one of the runs has not looked at."""
    either = [
        pc.fill_null(mark_duplicates(side.images), False).to_numpy()
        for side in (window.before, window.after)
    ]
    return np.logical_or(*either)


def _fates(
    before: ComparedRows, after: ComparedRows, found: RowPairs, tolerance: Tolerance
) -> _Fates:
    shifted = np.abs(after.scores[found.after] - before.scores[found.before]) > tolerance.score
    shifted |= (
        found.embedding_distance > tolerance.embedding
    )  # what was not measured is NaN, and no larger than anything
    shifted |= found.box_shift > tolerance.box
    shifted |= np.isnan(found.box_shift) & (1 - found.iou > tolerance.mask)
    renamed = before.classes[found.before] != after.classes[found.after]
    lost = np.setdiff1d(np.arange(len(before.at)), found.before)
    added = np.setdiff1d(np.arange(len(after.at)), found.after)
    rest = len(lost) + len(added)
    return _Fates(
        kind=np.concatenate(
            [
                np.where(renamed, RENAMED, np.where(shifted, SHIFTED, SAME)),
                np.repeat([LOST, ADDED], [len(lost), len(added)]),
            ]
        ),
        at=np.concatenate([before.at[found.before], before.at[lost], after.at[added]]),
        before=np.concatenate([found.before, lost, np.full(len(added), -1)]),
        after=np.concatenate([found.after, np.full(len(lost), -1), added]),
        iou=np.concatenate([found.iou, np.full(rest, np.nan)]),
    )


def _measured(
    before: ComparedRows, after: ComparedRows, found: RowPairs, n: int
) -> dict[str, np.ndarray]:
    """(n,) each: of an image's pairs; NaN where it has none."""
    at = before.at[found.before]
    shifts = after.scores[found.after] - before.scores[found.before]
    shifts[before.classes[found.before] != after.classes[found.after]] = (
        np.nan
    )  # scores of two classes are not compared
    return {
        "mean_score_shift": _mean(shifts, at, n),
        "max_score_shift": _most(np.abs(shifts), at, n),
        "max_box_shift": _most(found.box_shift, at, n),
        "mean_iou": _mean(found.iou, at, n),
        "embedding_distance": _most(found.embedding_distance, at, n),
    }


def _mean(values: np.ndarray, at: np.ndarray, n: int) -> np.ndarray:
    measured = ~np.isnan(values)
    count = np.bincount(at[measured], minlength=n)
    total = np.bincount(at[measured], values[measured], n)
    return np.divide(total, count, out=np.full(n, np.nan), where=count > 0)


def _most(values: np.ndarray, at: np.ndarray, n: int) -> np.ndarray:
    most = np.full(n, np.nan)
    np.fmax.at(most, at, values)
    return most


def _images(window: AlignedImages, fates: _Fates, measured: dict[str, np.ndarray]) -> pa.Table:
    before, after = window.before, window.after
    here, there, duplicate, n = _known(before), _known(after), _duplicate(window), len(window.keys)
    absent = ~(here & there) | duplicate
    counts = {
        kind: np.bincount(fates.at[fates.kind == kind], minlength=n)
        for kind in (ADDED, LOST, RENAMED, SHIFTED)
    }
    changed = sum(counts.values()) > 0
    for name in ("status", "width", "height"):
        differs = pc.fill_null(pc.not_equal(_text(before, name), _text(after, name)), False)
        changed |= differs.to_numpy()
    kind = np.select(
        [~there, ~here, duplicate, changed],
        [ONLY_BEFORE, ONLY_AFTER, DUPLICATE, CHANGED],
        UNCHANGED,
    )
    columns = {
        "key": window.keys,
        "change": pa.array(kind),
        "status_before": _text(before, "status"),
        "status_after": _text(after, "status"),
        "before": pa.array(np.bincount(before.at, minlength=n), pa.int32(), mask=~here | duplicate),
        "after": pa.array(np.bincount(after.at, minlength=n), pa.int32(), mask=~there | duplicate),
    }
    columns |= {name: pa.array(count, pa.int32(), mask=absent) for name, count in counts.items()}
    return pa.table(
        columns
        | {name: pa.array(one, pa.float32(), from_pandas=True) for name, one in measured.items()}
    )


def _text(side: RunTables, name: str) -> pa.ChunkedArray:
    return side.images[name].cast(pa.string())


def _predictions(
    keys: pa.Array, names: pa.Array, before: ComparedRows, after: ComparedRows, fates: _Fates
) -> pa.Table:
    """Return the rows that are not the same, image by image.

    The box is that of the second run; for a lost row it is the first's.
    """
    changed = np.flatnonzero(fates.kind != SAME)
    changed = changed[np.argsort(fates.at[changed], kind="stable")]
    a, b = (pa.array(rows[changed], mask=rows[changed] < 0) for rows in (fates.before, fates.after))
    columns = {
        "key": keys.take(pa.array(fates.at[changed])),
        "change": pa.array(fates.kind[changed].astype(str)),
    }
    for side, rows, index in (("before", before, a), ("after", after, b)):
        columns[f"class_{side}"] = names.take(pa.array(rows.classes).take(index))
        columns[f"score_{side}"] = pa.array(rows.scores, pa.float32()).take(index)
    columns["iou"] = pa.array(fates.iou[changed], pa.float32(), from_pandas=True)
    if BOX_COLUMNS[0] in before.table.column_names:
        columns |= {
            name: pc.coalesce(after.table[name].take(b), before.table[name].take(a))
            for name in BOX_COLUMNS
        }
    return pa.table(columns)
