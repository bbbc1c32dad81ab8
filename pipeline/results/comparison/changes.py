"""Find what changed between two runs in a window of images."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from pipeline.results.comparison.aligned_reader import AlignedImages
from pipeline.results.comparison.change_tables import (
    make_image_table,
    make_prediction_table,
    mark_known,
    mark_skipped,
    measure_pairs,
)
from pipeline.results.comparison.matchers import RowMatcher, select_rows
from pipeline.results.comparison.row_fates import (
    ADDED,
    LOST,
    RENAMED,
    SAME,
    SHIFTED,
    Tolerance,
    decide_fates,
)


@dataclass(frozen=True)
class ImageChanges:
    """The changes in one window. Only predictions of images that both runs processed count."""

    images: pa.Table  # one row for each key
    predictions: pa.Table  # one row for each prediction that changed
    fates: dict[str, int]  # SAME, ADDED ... -> number of predictions; a pair counts once
    classes: np.ndarray  # (C, 4) number of predictions by class: before, after, added, lost
    became: np.ndarray  # (R, 2) class before and class after, of the pairs that changed class
    score_shifts: np.ndarray  # (S,) score after - score before, of the pairs with equal class


def find_changes(
    window: AlignedImages, matcher: RowMatcher, names: pa.Array, tolerance: Tolerance
) -> ImageChanges:
    """Compare the rows of one window.

    Args:
        names: class names of both runs, without repetition.
    """
    in_both = mark_known(window.before) & mark_known(window.after) & ~mark_skipped(window)
    before, after = (
        select_rows(side, matcher, names, in_both) for side in (window.before, window.after)
    )
    found = matcher.match(before, after)
    fates = decide_fates(before, after, found, tolerance)
    renamed, same_class = (
        fates.kind == RENAMED,
        before.classes[found.before] == after.classes[found.after],
    )
    of_class = [before.classes, after.classes, after.classes[fates.after[fates.kind == ADDED]]]
    of_class.append(before.classes[fates.before[fates.kind == LOST]])
    return ImageChanges(
        images=make_image_table(window, fates, measure_pairs(before, after, found, len(in_both))),
        predictions=make_prediction_table(window.keys, names, before, after, fates),
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
