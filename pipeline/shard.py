"""Shards of images -> committed files. The loop; who decodes, infers, writes and publishes is in the parts it calls."""

import logging
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, nullcontext
from dataclasses import dataclass, field
from types import TracebackType

import pyarrow as pa
import torch

from pipeline.commit import RunFolder
from pipeline.errors import PipelineError
from pipeline.loading import Loader
from pipeline.plan import Plan
from pipeline.progress import Progress
from pipeline.table import carry, image_rows, images_schema, with_columns
from pipeline.types import (
    Batch,
    Engine,
    Filter,
    Input,
    Item,
    Output,
    Outputs,
    Shard,
    Sink,
    SinkContext,
    SinkWriter,
    Status,
    Task,
)

log = logging.getLogger(__name__)
_BEHIND = 4  # batches that may wait to be written


@dataclass
class ShardRunner:
    """Turns shards into files. Each input comes out as exactly one row of `images`, or the run stops."""

    plan: Plan
    folder: RunFolder
    loader: Loader
    engine: Engine
    task: Task
    keep: Filter
    sinks: Sequence[Sink]
    progress: Progress
    _a_forward_succeeded: bool = field(default=False, init=False)
    _answers: dict[int, dict[int, Output]] = field(default_factory=dict, init=False)  # image_id -> number of view -> output

    def __post_init__(self) -> None:
        self.schema = with_columns(self.task.schema, self.loader.source.columns)  # of the predictions

    def run(self, shard_ids: Iterable[int]) -> None:
        timer = self.loader.timer
        images = images_schema(self.schema)
        with ShardWriter(self) as writer, closing(self.loader.batches(map(self.plan.shard, shard_ids))) as batches:
            for batch in timer.waiting("wait", batches):
                predictions = self._predict(batch)
                writer.write(batch.shard, image_rows(batch.items, predictions, images), predictions)
                self.progress.advance(batch.items)

    def _predict(self, batch: Batch) -> pa.Table:
        """The rows kept for the items that are through with this batch. Items that the model cannot take become failed."""
        with self.loader.timer.stage("forward"):
            for one, output in self._forward(batch.inputs):
                self._answers.setdefault(one.item.image_id, {})[one.number] = output
        batch.inputs.clear()  # the tables wait for the writer, the images need not
        with self.loader.timer.stage("rows"):
            outputs = [self._merged(item) for item in batch.items]
            good = [item for item in batch.items if item.status is Status.OK]
            if not good:
                return self.schema.empty_table()
            rows = self.task.rows([output for output in outputs if output is not None], good)
            return carry(self.keep(rows), good, self.schema)

    def _merged(self, item: Item) -> Output | None:
        """What the model said of the item's views, as one answer; None for a failed item."""
        answers = self._answers.pop(item.image_id, {})
        if item.status is not Status.OK:
            return None
        in_order = [answers[number] for number in range(len(item.views))]  # not in the order of the batches
        return self.loader.views.merge(in_order, item.views)

    def _forward(self, inputs: Sequence[Input]) -> list[tuple[Input, Output]]:
        """The inputs that the model could take, with its outputs, in order. A batch that fails is halved until the culprit
        is alone; its image alone is lost. Other views of a lost image are left out."""
        inputs = [one for one in inputs if one.item.status is Status.OK]
        if not inputs:
            return []
        error: Exception | None = None
        try:
            outputs = self.engine.forward([one.pixels for one in inputs], [one.size_hw for one in inputs])
            self._a_forward_succeeded = True
            return _finite(inputs, outputs)
        except PipelineError:
            raise
        except Exception as caught:  # noqa: BLE001 - the network is anybody's code
            error = caught.with_traceback(None)  # frames would keep the device's memory alive during the retry
        if isinstance(error, torch.OutOfMemoryError):
            torch.cuda.empty_cache()
        if len(inputs) > 1:
            half = len(inputs) // 2
            return self._forward(inputs[:half]) + self._forward(inputs[half:])
        if not self._a_forward_succeeded:
            self._probe(error)
        status = Status.OUT_OF_MEMORY if _is_memory(error) else Status.MODEL_ERROR
        inputs[0].item.fail(status, f"{type(error).__name__}: {error}")
        return []

    def _probe(self, error: Exception) -> None:
        """Before an image is blamed: a model that cannot take a plain grey picture either is itself broken."""
        frames = self.loader.source.clip_length
        grey = torch.full((3, 256, 256) if frames is None else (frames, 3, 256, 256), 127, dtype=torch.uint8)
        try:
            self.engine.forward([self.loader.model.preprocess(grey)], [(256, 256)])
        except Exception:  # noqa: BLE001
            raise PipelineError(f"The model fails on every image: {type(error).__name__}: {error}") from error
        self._a_forward_succeeded = True


def _finite(inputs: Sequence[Input], outputs: Outputs) -> list[tuple[Input, Output]]:
    """A NaN is a failure, not zero detections: every comparison with a threshold would be false."""
    kept = []
    for one, output in zip(inputs, outputs, strict=True):
        if all(value.isfinite().all() for value in output.values() if value.is_floating_point()):
            kept.append((one, output))
        else:
            one.item.fail(Status.MODEL_ERROR, "the model returned NaN or infinity")
    return kept


def _is_memory(error: Exception) -> bool:
    # torch's CPU allocator raises a plain RuntimeError
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "not enough memory" in str(error)


class ShardWriter:
    """Writes and commits in one thread behind the forward pass. What was not complete when an exception came is dropped."""

    def __init__(self, runner: ShardRunner) -> None:
        self.runner = runner
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="write")
        self._pending: list[Future[None]] = []
        self._shard: Shard | None = None
        self._rows = 0
        self._stack = ExitStack()
        self._writers: list[SinkWriter] = []
        self._failed = False

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._wait(0)
                if self._shard:
                    raise PipelineError(f"shard {self._shard.shard_id}: {self._rows} rows for {len(self._shard)} inputs.")
        finally:
            self._pool.shutdown(wait=True, cancel_futures=True)
            abandoned = error or PipelineError("abandoned")
            self._stack.__exit__(type(abandoned), abandoned, traceback)

    def write(self, shard: Shard, images: pa.Table, predictions: pa.Table) -> None:
        """Hand over one batch. Raises what an earlier one raised in the thread."""
        self._pending.append(self._pool.submit(self._write, shard, images, predictions))
        with self.runner.loader.timer.stage("behind"):
            self._wait(_BEHIND)

    def _wait(self, most: int) -> None:
        while self._pending and (len(self._pending) > most or self._pending[0].done()):
            self._pending.pop(0).result()

    def _write(self, shard: Shard, images: pa.Table, predictions: pa.Table) -> None:
        if self._failed:  # what is still queued behind a failure is not written
            return
        try:
            self._write_and_commit(shard, images, predictions)
        except BaseException:
            self._failed = True
            raise

    def _write_and_commit(self, shard: Shard, images: pa.Table, predictions: pa.Table) -> None:
        with self.runner.loader.timer.stage("write"):
            if self._shard is None:
                self._open(shard)
            if self._shard is not shard:
                raise PipelineError(f"a batch of shard {shard.shard_id} came before the shard before it was complete.")
            for writer in self._writers:
                writer.write(images, predictions)
            self._rows += images.num_rows
            complete = self._rows == len(shard)
            if complete:
                self._stack.close()  # sinks finish their files here, and only here
                self.runner.folder.commit(shard.shard_id, len(shard), self._stage)
                self._shard = None
        if complete:
            spent = self.runner.loader.timer.since_last()
            self.runner.folder.append_line("timing.jsonl", {"shard": shard.shard_id, "images": len(shard), **spent})
            log.debug("shard %d committed, %d images", shard.shard_id, len(shard))

    def _open(self, shard: Shard) -> None:
        runner = self.runner
        self._stage, self._rows, self._stack = runner.folder.stage(shard.shard_id), 0, ExitStack()
        context = SinkContext(self._stage, shard.shard_id, runner.schema, self._draw, self._read_image)
        self._writers = [self._stack.enter_context(sink.open(context)) for sink in runner.sinks]
        self._shard, self._entries = shard, {entry.key: entry for entry in shard.entries}

    def _draw(self, image: torch.Tensor, rows: pa.Table, long_side: int | None = None) -> torch.Tensor:
        with self.runner.loader.timer.stage("draw"):
            return self.runner.task.draw(image, rows, long_side)

    def _read_image(self, key: str) -> torch.Tensor:
        """(3, H, W) uint8 RGB; of a clip its middle frame."""
        loader = self.runner.loader
        (pixels,) = loader.source.read([self._entries[key]], loader.max_pixels, lambda stage: nullcontext())
        if not isinstance(pixels, torch.Tensor):
            raise pixels
        return pixels if pixels.dim() == 3 else pixels[len(pixels) // 2]
