"""Turn shards into committed files.

`ShardRunner` is the loop. `ShardWriter` collects finished inputs in the calling thread.
`ShardCommitter` makes their rows, passes these to the sinks and commits the shard, in one write
thread behind the forward pass.
"""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType

import pyarrow as pa
import pyarrow.compute as pc
import torch

from pipeline.core.cpu import disable_openmp_threads
from pipeline.core.errors import PipelineError
from pipeline.core.output_protocols import Sink, SinkContext, SinkWriter
from pipeline.core.tables import mark_failed
from pipeline.core.timing import StageTimer
from pipeline.core.types import Entry, Shard
from pipeline.inference.predictor import ItemOutputs, Predictor
from pipeline.inference.prefetched_shards import PrefetchedShards
from pipeline.runs.pictures import count_pictured, make_image_reader
from pipeline.runs.plan import Plan
from pipeline.runs.progress import ProgressBar
from pipeline.runs.run_folder import RunFolder

log = logging.getLogger(__name__)
_MAX_PENDING_GROUPS = 4  # groups that may wait for the write thread
# Rows are made for a group of images, because an Arrow table of few rows costs as much as one of
# many. The second limit bounds the memory of the model's outputs, such as masks.
_GROUP_IMAGES, _GROUP_BYTES = 64, 64 << 20


@dataclass(frozen=True)
class ShardRunner:
    """Computes and commits shards.

    Each input gets exactly one row of `images`; otherwise the run stops.
    """

    plan: Plan
    folder: RunFolder
    predictor: Predictor
    sinks: Mapping[str, Sink]
    progress: ProgressBar
    timer: StageTimer = field(default_factory=StageTimer, init=False)

    def run(self, shard_ids: Iterable[int]) -> None:
        shards = map(self.plan.read_shard, shard_ids)
        with (
            self.predictor.open_prefetched() as prefetched,
            ShardWriter(self, prefetched) as writer,
            closing(self.predictor.predict(shards, self.timer, prefetched)) as finished,
        ):
            for shard, items in finished:
                writer.write(shard, items)
                self.progress.add_items([item for item, _ in items])


class ShardWriter:
    """Collects finished inputs in groups and hands each group to the write thread.

    Shards must come one after the other. When an exception ends the `with` block, an incomplete
    shard is dropped.
    """

    def __init__(self, runner: ShardRunner, prefetched: PrefetchedShards) -> None:
        self.timer = runner.timer
        self._committer = ShardCommitter(runner, prefetched)
        self._pool = ThreadPoolExecutor(
            1, thread_name_prefix="write", initializer=disable_openmp_threads
        )
        self._pending: list[Future[None]] = []
        self._group: list[ItemOutputs] = []  # not yet handed to the thread
        self._group_bytes = 0  # of the model's outputs in the group
        self._n_handed_over = 0  # inputs of the current shard

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self._wait_for_pending(0)
                if self._n_handed_over or self._group:
                    n_finished = self._n_handed_over + len(self._group)
                    raise PipelineError(f"{n_finished} inputs came out of a shard of more.")
        finally:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._committer.abandon(error or PipelineError("abandoned"))

    def write(self, shard: Shard, finished: Sequence[ItemOutputs]) -> None:
        """Add finished inputs of a shard.

        Raises the error that the write thread raised for an earlier group.
        """
        self._group += finished
        self._group_bytes += sum(
            tensor.nbytes
            for _, views in finished
            for output in views.values()
            for tensor in output.values()
        )

        is_complete = self._n_handed_over + len(self._group) == len(shard)
        is_full = len(self._group) >= _GROUP_IMAGES or self._group_bytes >= _GROUP_BYTES
        if is_complete or is_full:
            self._submit(partial(self._committer.add, shard, self._group))
            self._n_handed_over = 0 if is_complete else self._n_handed_over + len(self._group)
            self._group, self._group_bytes = [], 0

        with self.timer.measure("behind"):
            self._wait_for_pending(_MAX_PENDING_GROUPS)

    def write_tables(self, shard: Shard, images: pa.Table, predictions: pa.Table) -> None:
        """Add rows that the shard already had, unchanged."""
        self._n_handed_over += images.num_rows
        self._submit(partial(self._committer.add_tables, shard, images, predictions))

    def _submit(self, step: Callable[[], None]) -> None:
        self._pending.append(self._pool.submit(self._committer.run_unless_failed, step))

    def _wait_for_pending(self, allowed: int) -> None:
        """Raise errors of steps that have ended. Wait until at most `allowed` steps are left."""
        while self._pending and (len(self._pending) > allowed or self._pending[0].done()):
            self._pending.pop(0).result()


@dataclass(frozen=True)
class OpenShard:
    """A shard whose sinks are open. `stack` closes them."""

    shard: Shard
    context: SinkContext
    writers: Sequence[SinkWriter]
    stack: ExitStack


class ShardCommitter:
    """Makes rows, writes them to the sinks and commits each complete shard.

    Only the write thread calls its methods, except `abandon`, which is called after that thread has
    ended. It reports a commit at once, because a worker gets its next shard only after that.
    """

    def __init__(self, runner: ShardRunner, prefetched: PrefetchedShards) -> None:
        self.runner, self.predictor, self.timer = runner, runner.predictor, runner.timer
        self.prefetched = prefetched
        self._open: OpenShard | None = None
        self._n_rows = self._n_errors = 0  # of the open shard
        self._sizes_hw: dict[int, tuple[int, int]] = {}  # by image_id, of the open shard
        self._has_failed = False

    def run_unless_failed(self, step: Callable[[], None]) -> None:
        """Run a step. After a failed step all further steps do nothing."""
        if self._has_failed:
            return
        try:
            step()
        except BaseException:
            self._has_failed = True
            raise

    def add(self, shard: Shard, finished: Sequence[ItemOutputs]) -> None:
        """Make the rows of finished inputs and write them."""
        with self.timer.measure("rows"):
            tables = self.predictor.make_tables(finished)
        self.add_tables(shard, *tables)

    def add_tables(self, shard: Shard, images: pa.Table, predictions: pa.Table) -> None:
        """Write rows to the sinks. Commit the shard when it has a row for each input."""
        with self.timer.measure("write"):
            if self._open is None:
                self._open, self._n_rows, self._n_errors = self._open_sinks(shard), 0, 0
                self._sizes_hw = {}
            if self._open.shard is not shard:
                raise PipelineError(
                    f"a batch of shard {shard.shard_id} came before the shard before it was "
                    "complete."
                )
            self._sizes_hw |= read_sizes_hw(images)
            for writer in self._open.writers:
                writer.write(images, predictions)
            self._n_rows += images.num_rows
            self._n_errors += pc.sum(mark_failed(images)).as_py() or 0
            is_complete = self._n_rows == len(shard)
            if is_complete:
                self._commit(self._open)
                self._open = None
        if is_complete:
            self._report(shard)

    def abandon(self, error: BaseException) -> None:
        """Close the sinks of an incomplete shard with this error, so that they finish no file."""
        if self._open:
            self._open.stack.__exit__(type(error), error, error.__traceback__)

    def _open_sinks(self, shard: Shard) -> OpenShard:
        context = SinkContext(
            self.runner.folder.create_stage(shard.shard_id),
            shard.shard_id,
            self.predictor.schema,
            self._draw,
            make_image_reader(shard, self._read_image),
        )
        with ExitStack() as stack:
            sinks = self.runner.sinks.values()
            writers = [stack.enter_context(sink.open(context)) for sink in sinks]
            return OpenShard(shard, context, writers, stack.pop_all())

    def _read_image(self, image_id: int, entry: Entry) -> torch.Tensor:
        return self.predictor.read_original(image_id, entry, self._sizes_hw[image_id])

    def _commit(self, opened: OpenShard) -> None:
        shard = opened.shard
        opened.stack.close()  # the sinks finish their files
        pictures = count_pictured(self.runner.sinks, shard.first_image_id, len(shard))
        self.runner.folder.commit(shard.shard_id, len(shard), opened.context.stage, pictures)
        self.prefetched.release(shard.shard_id)

    def _report(self, shard: Shard) -> None:
        timings = {"shard": shard.shard_id, "images": len(shard), **self.timer.take_lap()}
        self.runner.folder.append_line("timing.jsonl", timings)
        self.predictor.in_flight.count_progress()
        self.runner.progress.report_commit(shard.shard_id, len(shard), self._n_errors)
        log.debug("shard %d committed, %d images", shard.shard_id, len(shard))

    def _draw(
        self, image: torch.Tensor, rows: pa.Table, long_side: int | None = None
    ) -> torch.Tensor:
        with self.timer.measure("draw"):
            return self.predictor.task.draw(image, rows, long_side)


def read_sizes_hw(images: pa.Table) -> dict[int, tuple[int, int]]:
    """Return the height and width of each image that has them, by image_id."""
    columns = (images[name].to_pylist() for name in ("image_id", "height", "width"))
    return {
        image_id: (height, width)
        for image_id, height, width in zip(*columns, strict=True)
        if height is not None
    }
