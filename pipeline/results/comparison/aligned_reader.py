"""Read two finished runs side by side in the order of their keys.

The runs may have been split into different shards.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.runs.finished_run import FinishedRun

_AT_ONCE = 4096  # least number of images to read together from a run
_IMAGES = ["key", "width", "height", "status"]


@dataclass(frozen=True)
class RunTables:
    """The rows of one run for the images of a window."""

    images: pa.Table  # (N,) a row for each key of the window; nulls if the run lacks the image
    predictions: pa.Table  # (P,) grouped by image, in the run's order within an image
    at: np.ndarray  # (P,) ascending: position of each prediction's key in the window's keys


@dataclass(frozen=True)
class AlignedImages:
    """A window of images, with the rows of both runs for them."""

    keys: pa.Array  # ascending and unique
    before: RunTables
    after: RunTables


def read_aligned(
    before: FinishedRun, after: FinishedRun, columns: Sequence[str]
) -> Iterator[AlignedImages]:
    """Yield every image of either run in exactly one window.

    Keys ascend only within a part of a plan. Therefore a few thousand images of each part are in
    memory at the same time.

    Args:
        columns: the columns of predictions to read, besides `key`.
    """
    runs = [
        [_Stream(_pieces(run, columns, part)) for part in range(len(run.plan.parts))]
        for run in (before, after)
    ]
    while filled := [stream for streams in runs for stream in streams if stream.fill()]:
        bound = min(stream.last for stream in filled)
        pieces = [[stream.take(bound) for stream in streams] for streams in runs]
        yield _window(*([piece for piece in side if piece is not None] for side in pieces))


_Piece = tuple[pa.Table, pa.Table]  # images, predictions


class _Stream:
    """Buffered rows of one part of a plan, in the order of their keys."""

    def __init__(self, pieces: Iterator[_Piece]) -> None:
        self.pieces = pieces
        self.held: _Piece | None = None

    def fill(self) -> bool:
        """Read the next rows if the buffer is empty. Return whether there are any rows."""
        if self.held is None:
            self.held = next(self.pieces, None)
        return self.held is not None

    @property
    def last(self) -> str:
        """The last key in the buffer. Valid only after `fill` returned True."""
        return str(self.held[0]["key"][-1]) if self.held else ""

    def take(self, bound: str) -> _Piece | None:
        """Remove and return the rows with keys up to `bound`."""
        if self.held is None or self.held[0]["key"][0].as_py() > bound:
            return None
        images, predictions = self.held
        n, p = (pc.sum(pc.less_equal(rows["key"], bound)).as_py() or 0 for rows in self.held)
        self.held = (images.slice(n), predictions.slice(p)) if n < len(images) else None
        return images.slice(0, n), predictions.slice(0, p)


def _pieces(run: FinishedRun, columns: Sequence[str], part: int) -> Iterator[_Piece]:
    """Yield the tables of a part of the plan. Small shards are joined."""
    first, wanted = run.plan.parts[part].first_shard, list(dict.fromkeys(["key", *columns]))
    here = range(first, first + run.plan.parts[part].shards)
    pieces: list[_Piece] = []
    for shard_id in (i for i in run.shard_ids if i in here):
        pieces.append(
            (
                run.read_table("images", shard_id, _IMAGES),
                run.read_table("predictions", shard_id, wanted),
            )
        )
        if sum(len(images) for images, _ in pieces) >= _AT_ONCE:
            yield _joined(pieces)
            pieces = []
    if pieces:
        yield _joined(pieces)


def _joined(pieces: Sequence[_Piece]) -> _Piece:
    """Concatenate the tables of several pieces."""
    images, predictions = (
        pa.concat_tables(tables).unify_dictionaries().combine_chunks()
        for tables in zip(*pieces, strict=True)
    )
    return images, predictions


def _window(before: Sequence[_Piece], after: Sequence[_Piece]) -> AlignedImages:
    """Align the pieces of both runs by key. At least one run must have a piece."""
    keys = pa.concat_arrays(
        [chunk for images, _ in (*before, *after) for chunk in images["key"].chunks]
    ).unique()
    keys = keys.take(pc.array_sort_indices(keys))
    # A window has rows of at least one run. If the other run has none, empty tables with the same
    # schema take their place.
    empty = [tuple(table.slice(0, 0) for table in (*before, *after)[0])]
    return AlignedImages(
        keys, *(_side(keys, _joined(pieces or empty)) for pieces in (before, after))
    )


def _side(keys: pa.Array, piece: _Piece) -> RunTables:
    """Arrange one run's rows by the window's keys."""
    images, predictions = piece
    at = pc.index_in(predictions["key"], value_set=keys).to_numpy()
    order = np.argsort(at, kind="stable")
    return RunTables(
        images.take(pc.index_in(keys, value_set=images["key"])),
        predictions.take(order),
        at[order].astype(np.int64),
    )
