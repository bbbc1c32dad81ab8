"""Decide what became of a run's rows in another run: same, shifted, renamed, added or lost."""

from dataclasses import dataclass

import numpy as np

from pipeline.results.comparison.matchers import ComparedRows, RowPairs

# what became of an image
UNCHANGED, CHANGED = "unchanged", "changed"
ONLY_BEFORE, ONLY_AFTER = "only_before", "only_after"
DUPLICATE = "duplicate"  # one of the runs skipped it, because another image is the same picture

# what became of a prediction
SAME, ADDED, LOST, RENAMED, SHIFTED = "same", "added", "lost", "another_class", "shifted"


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
class RowFates:
    """What became of the predictions of both runs, (F,) each. A pair counts once."""

    kind: np.ndarray  # SAME, ADDED ...
    at: np.ndarray  # position of the image
    before: np.ndarray  # row, -1 for what was added
    after: np.ndarray  # row, -1 for what was lost
    iou: np.ndarray  # NaN where there is no pair or no shape


def decide_fates(
    before: ComparedRows, after: ComparedRows, found: RowPairs, tolerance: Tolerance
) -> RowFates:
    """Decide what became of each row, from the pairs of rows that mean the same."""
    shifted = np.abs(after.scores[found.after] - before.scores[found.before]) > tolerance.score
    # what was not measured is NaN, which is not larger than anything
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
