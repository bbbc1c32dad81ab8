"""Make the tables of changes: one row per image, and one row per changed prediction."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core.schema import BOX_COLUMNS
from pipeline.core.tables import mark_duplicates
from pipeline.results.comparison.aligned_reader import AlignedImages, RunTables
from pipeline.results.comparison.matchers import ComparedRows, RowPairs
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
    RowFates,
)


def mark_known(side: RunTables) -> np.ndarray:
    """Return (N,) bool: whether the run has each image of the window."""
    known: np.ndarray = pc.is_valid(side.images["key"]).to_numpy()
    return known


def mark_skipped(window: AlignedImages) -> np.ndarray:
    """Return (N,) bool: whether at least one run skipped the image as a duplicate."""
    either = [
        pc.fill_null(mark_duplicates(side.images), False).to_numpy()
        for side in (window.before, window.after)
    ]
    return np.logical_or(*either)


def make_image_table(
    window: AlignedImages, fates: RowFates, measured: dict[str, np.ndarray]
) -> pa.Table:
    """Return a row for each image of the window, with the kind and the size of its changes.

    Args:
        measured: more columns by name, (N,) each, as `measure_pairs` returns them.
    """
    before, after = window.before, window.after
    here, there, duplicate, n = (
        mark_known(before),
        mark_known(after),
        mark_skipped(window),
        len(window.keys),
    )
    absent = ~(here & there) | duplicate
    counts = {
        kind: np.bincount(fates.at[fates.kind == kind], minlength=n)
        for kind in (ADDED, LOST, RENAMED, SHIFTED)
    }
    changed = sum(counts.values()) > 0
    for name in ("status", "width", "height"):
        differs = pc.fill_null(
            pc.not_equal(_read_text(before, name), _read_text(after, name)), False
        )
        changed |= differs.to_numpy()
    kind = np.select(
        [~there, ~here, duplicate, changed],
        [ONLY_BEFORE, ONLY_AFTER, DUPLICATE, CHANGED],
        UNCHANGED,
    )
    columns = {
        "key": window.keys,
        "change": pa.array(kind),
        "status_before": _read_text(before, "status"),
        "status_after": _read_text(after, "status"),
        "before": pa.array(np.bincount(before.at, minlength=n), pa.int32(), mask=~here | duplicate),
        "after": pa.array(np.bincount(after.at, minlength=n), pa.int32(), mask=~there | duplicate),
    }
    columns |= {name: pa.array(count, pa.int32(), mask=absent) for name, count in counts.items()}
    return pa.table(
        columns
        | {
            name: pa.array(values, pa.float32(), from_pandas=True)
            for name, values in measured.items()
        }
    )


def _read_text(side: RunTables, name: str) -> pa.ChunkedArray:
    return side.images[name].cast(pa.string())


def make_prediction_table(
    keys: pa.Array, names: pa.Array, before: ComparedRows, after: ComparedRows, fates: RowFates
) -> pa.Table:
    """Return a row for each prediction whose fate is not SAME, grouped by image.

    The box comes from the second run. For a lost row it comes from the first run.
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


def measure_pairs(
    before: ComparedRows, after: ComparedRows, found: RowPairs, n: int
) -> dict[str, np.ndarray]:
    """Return (n,) arrays by name: the differences of each image's pairs.

    An image without pairs has NaN.
    """
    at = before.at[found.before]
    shifts = after.scores[found.after] - before.scores[found.before]
    # Scores of two different classes cannot be compared.
    shifts[before.classes[found.before] != after.classes[found.after]] = np.nan
    return {
        "mean_score_shift": _mean_by_image(shifts, at, n),
        "max_score_shift": _most_by_image(np.abs(shifts), at, n),
        "max_box_shift": _most_by_image(found.box_shift, at, n),
        "mean_iou": _mean_by_image(found.iou, at, n),
        "embedding_distance": _most_by_image(found.embedding_distance, at, n),
    }


def _mean_by_image(values: np.ndarray, at: np.ndarray, n: int) -> np.ndarray:
    measured = ~np.isnan(values)
    count = np.bincount(at[measured], minlength=n)
    total = np.bincount(at[measured], values[measured], n)
    return np.divide(total, count, out=np.full(n, np.nan), where=count > 0)


def _most_by_image(values: np.ndarray, at: np.ndarray, n: int) -> np.ndarray:
    most = np.full(n, np.nan)
    np.fmax.at(most, at, values)
    return most
