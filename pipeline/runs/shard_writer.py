"""Shards -> committed files. The loop; who decodes, infers, writes and publishes is in the parts it calls."""

import logging
from collections.abc import Callable, Iterable, Sequence
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
from pipeline.core.protocols import Sink, SinkContext, SinkWriter
from pipeline.core.tables import mark_failed
from pipeline.core.timing import StageTimer
from pipeline.core.types import Shard
from pipeline.inference.predictor import ItemOutputs, Predictor
from pipeline.runs.plan import Plan
from pipeline.runs.progress import ProgressBar
from pipeline.runs.run_folder import RunFolder

log = logging.getLogger(__name__)
_BEHIND = 4  # groups that may wait to be written
# Rows are made of so many images at once, because a table of few rows costs as much as one of many; or of so many bytes
# that the model said of them.
_GROUP, _GROUP_BYTES = 64, 64 << 20


@dataclass
class ShardRunner:
    """Turns shards into files. Each input comes out as exactly one row of `images`, or the run stops."""

    plan: Plan
    folder: RunFolder
    predictor: Predictor
    sinks: Sequence[Sink]
    progress: ProgressBar
    timer: StageTimer = field(default_factory=StageTimer, init=False)

    def run(self, shard_ids: Iterable[int]) -> None:
        shards = map(self.plan.read_shard, shard_ids)
        with (
            ShardWriter(self) as writer,
            closing(self.predictor.predict(shards, self.timer)) as answered,
        ):
            for shard, batch in answered:
                writer.write(shard, batch)
                self.progress.add_items([item for item, _ in batch])


class ShardWriter:
    """Makes rows, writes and commits in one thread behind the forward pass. What was not complete when an exception came is
    dropped."""

    def __init__(self, runner: ShardRunner) -> None:
        self.runner, self.predictor, self.timer = (
            runner,
            runner.predictor,
            runner.timer,
        )
        self._pool = ThreadPoolExecutor(
            1, thread_name_prefix="write", initializer=disable_openmp_threads
        )
        self._pending: list[Future[None]] = []
        self._group: list[ItemOutputs] = []  # not yet handed over
        self._bytes = self._handed_over = 0  # of the group; inputs of the shard
        self._shard: Shard | None = None
        self._rows = self._errors = 0  # of the shard, handed to the sinks
        self._stack = ExitStack()
        self._writers: list[SinkWriter] = []
        self._failed = False

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
                self._wait(0)
                if self._shard or self._group:
                    raise PipelineError(
                        f"{self._handed_over + len(self._group)} inputs came out of a shard of more."
                    )
        finally:
            self._pool.shutdown(wait=True, cancel_futures=True)
            abandoned = error or PipelineError("abandoned")
            self._stack.__exit__(type(abandoned), abandoned, traceback)

    def write(self, shard: Shard, answered: Sequence[ItemOutputs]) -> None:
        """Take the inputs that are through with a batch. Raises what an earlier one raised in the thread."""
        self._group += answered
        self._bytes += sum(
            v.nbytes for _, views in answered for output in views.values() for v in output.values()
        )
        complete = self._handed_over + len(self._group) == len(shard)
        if complete or len(self._group) >= _GROUP or self._bytes >= _GROUP_BYTES:
            self._pending.append(
                self._pool.submit(self._guarded, partial(self._write, shard, self._group))
            )
            self._handed_over = 0 if complete else self._handed_over + len(self._group)
            self._group, self._bytes = [], 0
        with self.timer.measure("behind"):
            self._wait(_BEHIND)

    def keep(self, shard: Shard, images: pa.Table, predictions: pa.Table) -> None:
        """Take rows that the shard had before, as they are."""
        self._handed_over += images.num_rows
        self._pending.append(
            self._pool.submit(
                self._guarded, lambda: self._write_and_commit(shard, images, predictions)
            )
        )

    def _wait(self, most: int) -> None:
        while self._pending and (len(self._pending) > most or self._pending[0].done()):
            self._pending.pop(0).result()

    def _guarded(self, work: Callable[[], None]) -> None:
        if self._failed:  # what is still queued behind a failure is not written
            return
        try:
            work()
        except BaseException:
            self._failed = True
            raise

    def _write(self, shard: Shard, answered: Sequence[ItemOutputs]) -> None:
        with self.timer.measure("rows"):
            tables = self.predictor.make_tables(answered)
        self._write_and_commit(shard, *tables)

    def _write_and_commit(self, shard: Shard, images: pa.Table, predictions: pa.Table) -> None:
        with self.timer.measure("write"):
            if self._shard is None:
                self._open(shard)
            if self._shard is not shard:
                raise PipelineError(
                    f"a batch of shard {shard.shard_id} came before the shard before it was complete."
                )
            for writer in self._writers:
                writer.write(images, predictions)
            self._rows += images.num_rows
            self._errors += pc.sum(mark_failed(images)).as_py() or 0
            complete = self._rows == len(shard)
            if complete:
                self._stack.close()  # sinks finish their files here, and only here
                self.runner.folder.commit(shard.shard_id, len(shard), self._stage)
                self.predictor.release(shard)
                self._shard = None
        if complete:
            spent = self.timer.take_lap()
            self.runner.folder.append_line(
                "timing.jsonl", {"shard": shard.shard_id, "images": len(shard), **spent}
            )
            self.predictor.in_flight.count_progress()
            self.runner.progress.report_commit(shard.shard_id, len(shard), self._errors)
            log.debug("shard %d committed, %d images", shard.shard_id, len(shard))

    def _open(self, shard: Shard) -> None:
        runner = self.runner
        self._stage, self._stack = runner.folder.create_stage(shard.shard_id), ExitStack()
        self._rows = self._errors = 0
        context = SinkContext(
            self._stage, shard.shard_id, self.predictor.schema, self._draw, self._read_image
        )
        self._writers = [self._stack.enter_context(sink.open(context)) for sink in runner.sinks]
        self._shard, self._place = shard, {entry.key: i for i, entry in enumerate(shard.entries)}

    def _draw(
        self, image: torch.Tensor, rows: pa.Table, long_side: int | None = None
    ) -> torch.Tensor:
        with self.timer.measure("draw"):
            return self.predictor.task.draw(image, rows, long_side)

    def _read_image(self, key: str) -> torch.Tensor:
        """(3, H, W) uint8 RGB; of a clip its middle frame."""
        shard = self._shard
        assert shard is not None, "pictures are made while a shard is open"  # noqa: S101
        at = self._place[key]
        return self.predictor.read_original(shard.first_image_id + at, shard.entries[at])
