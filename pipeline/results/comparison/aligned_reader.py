"""Two finished runs beside each other, in the order of their keys, however each was cut into shards."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.runs.finished_run import FinishedRun

_AT_ONCE = 4096  # images of a run
_IMAGES = ["key", "width", "height", "status"]


@dataclass(frozen=True)
class RunTables:
    """What one run says of a window's images."""

    images: (
        pa.Table
    )  # (N,) a row for each of the window's keys, of nulls where the run has not the image
    predictions: pa.Table  # image by image, an image's in their own order
    at: np.ndarray  # (P,) ascending: the position of each one's key among the window's


@dataclass(frozen=True)
class AlignedImages:
    """Some images: no run says anything of them in another window."""

    keys: pa.Array  # ascending, each once
    before: RunTables
    after: RunTables


def read_aligned(
    before: FinishedRun, after: FinishedRun, columns: Sequence[str]
) -> Iterator[AlignedImages]:
    """Every image of either run once. `columns`: of predictions, besides `key`. Holds some thousand images of each part of
    the two plans, since only within a part keys ascend."""
    runs = [
        [_Stream(_pieces(run, columns, part)) for part in range(len(run.plan.parts))]
        for run in (before, after)
    ]
    while held := [stream for streams in runs for stream in streams if stream.fill()]:
        bound = min(stream.last for stream in held)
        pieces = [[stream.take(bound) for stream in streams] for streams in runs]
        yield _window(*([piece for piece in one if piece is not None] for one in pieces))


_Piece = tuple[pa.Table, pa.Table]  # images, predictions


class _Stream:
    """Rows that come in the order of their keys."""

    def __init__(self, pieces: Iterator[_Piece]) -> None:
        self.pieces = pieces
        self.held: _Piece | None = None

    def fill(self) -> bool:
        """Whether there is more."""
        if self.held is None:
            self.held = next(self.pieces, None)
        return self.held is not None

    @property
    def last(self) -> str:
        """The last key of what is held. Only after `fill`."""
        return str(self.held[0]["key"][-1]) if self.held else ""

    def take(self, bound: str) -> _Piece | None:
        """What is held of keys up to `bound`."""
        if self.held is None or self.held[0]["key"][0].as_py() > bound:
            return None
        images, predictions = self.held
        n, p = (pc.sum(pc.less_equal(rows["key"], bound)).as_py() or 0 for rows in self.held)
        self.held = (images.slice(n), predictions.slice(p)) if n < len(images) else None
        return images.slice(0, n), predictions.slice(0, p)


def _pieces(run: FinishedRun, columns: Sequence[str], part: int) -> Iterator[_Piece]:
    """The tables of a part of its plan, shards put together until they have enough images."""
    first, wanted = run.plan.parts[part].first_shard, list(dict.fromkeys(["key", *columns]))
    here = range(first, first + run.plan.parts[part].shards)
    held: list[_Piece] = []
    for shard_id in (i for i in run.shard_ids if i in here):
        held.append(
            (
                run.read_table("images", shard_id, _IMAGES),
                run.read_table("predictions", shard_id, wanted),
            )
        )
        if sum(len(images) for images, _ in held) >= _AT_ONCE:
            yield _joined(held)
            held = []
    if held:
        yield _joined(held)


def _joined(pieces: Sequence[_Piece]) -> _Piece:
    images, predictions = (
        pa.concat_tables(tables).unify_dictionaries().combine_chunks()
        for tables in zip(*pieces, strict=True)
    )
    return images, predictions


def _window(before: Sequence[_Piece], after: Sequence[_Piece]) -> AlignedImages:
    keys = pa.concat_arrays(
        [chunk for images, _ in (*before, *after) for chunk in images["key"].chunks]
    ).unique()
    keys = keys.take(pc.array_sort_indices(keys))
    # a window has something of one of the two at least, whose empty tables stand for the other's
    empty = [tuple(table.slice(0, 0) for table in (*before, *after)[0])]
    return AlignedImages(
        keys, *(_side(keys, _joined(pieces or empty)) for pieces in (before, after))
    )


def _side(keys: pa.Array, piece: _Piece) -> RunTables:
    images, predictions = piece
    at = pc.index_in(predictions["key"], value_set=keys).to_numpy()
    order = np.argsort(at, kind="stable")
    return RunTables(
        images.take(pc.index_in(keys, value_set=images["key"])),
        predictions.take(order),
        at[order].astype(np.int64),
    )
