"""Classify the rows of two runs: same, shifted, renamed, added or lost."""

from dataclasses import dataclass

import numpy as np

from pipeline.results.comparison.matchers import ComparedRows, RowPairs

# Kinds of change of an image.
UNCHANGED, CHANGED = "unchanged", "changed"
ONLY_BEFORE, ONLY_AFTER = "only_before", "only_after"
DUPLICATE = "duplicate"  # a run skipped it, because another image has the same content

# Fates of a prediction.
SAME, ADDED, LOST, RENAMED, SHIFTED = "same", "added", "lost", "another_class", "shifted"


@dataclass(frozen=True)
class Tolerance:
    """Largest differences up to which two rows count as the same."""

    score: float
    box: float  # pixels
    mask: float  # 1 - IoU
    embedding: float  # cosine distance

    def __str__(self) -> str:
        """Return the tolerance in the syntax of the command line."""
        return "{" + ", ".join(f"{name}: {value:g}" for name, value in vars(self).items()) + "}"


@dataclass(frozen=True)
class RowFates:
    """Fates of the predictions of both runs, as arrays (F,). A pair of rows is one element."""

    kind: np.ndarray  # SAME, ADDED ...
    at: np.ndarray  # position of the image in the window
    before: np.ndarray  # row number in the first run, -1 for an added row
    after: np.ndarray  # row number in the second run, -1 for a lost row
    iou: np.ndarray  # NaN if there is no pair, or if rows have neither box nor mask


def decide_fates(
    before: ComparedRows, after: ComparedRows, found: RowPairs, tolerance: Tolerance
) -> RowFates:
    """Decide the fate of each row from the pairs of corresponding rows."""
    shifted = np.abs(after.scores[found.after] - before.scores[found.before]) > tolerance.score
    # A value that was not measured is NaN. NaN is never larger than a tolerance.
    shifted |= found.embedding_distance > tolerance.embedding
    shifted |= found.box_shift > tolerance.box
    shifted |= np.isnan(found.box_shift) & (1 - found.iou > tolerance.mask)
    renamed = before.classes[found.before] != after.classes[found.after]
    lost = np.setdiff1d(np.arange(len(before.at)), found.before)
    added = np.setdiff1d(np.arange(len(after.at)), found.after)
    rest = len(lost) + len(added)
    return RowFates(
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
