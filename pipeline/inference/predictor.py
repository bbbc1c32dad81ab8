"""Inputs -> what the model says of them -> rows that the filters keep."""

import logging
import sys
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field

import pyarrow as pa
import torch

from pipeline.core.errors import PipelineError
from pipeline.core.protocols import Engine, Filter, Task
from pipeline.core.schema import (
    add_carried_values,
    add_source_columns,
    make_image_rows,
    make_images_schema,
)
from pipeline.core.types import Item, ModelInput, Output, Outputs, Shard, Status
from pipeline.inference.loader import Loader

log = logging.getLogger(__name__)
_FORWARD_S = 3600.0  # seconds in which a forward pass, compiling included, is through, or hangs
ItemOutputs = tuple[
    Item, Mapping[int, Output]
]  # an input that is through, and what the model said of its views, by number


@dataclass
class Predictor:
    """A model at work. What goes in comes out: each input once, with the model's answers or as a failed item."""

    loader: Loader
    engine: Engine
    task: Task
    keep: Filter
    _a_forward_succeeded: bool = field(default=False, init=False)
    _answers: dict[int, dict[int, Output]] = field(
        default_factory=dict, init=False
    )  # image_id -> number of view -> output
    _fits: int = field(
        default=sys.maxsize, init=False
    )  # values of the inputs that the memory has room for at once

    def __post_init__(self) -> None:
        self.schema = add_source_columns(
            self.task.schema, self.loader.source.columns
        )  # of the predictions

    def predict(
        self, shards: Iterable[Shard]
    ) -> Generator[tuple[Shard, list[ItemOutputs]], None, None]:
        """Batch by batch, the inputs that are through with it."""
        timer = self.loader.timer
        with closing(self.loader.load_batches(shards)) as batches:
            for batch in timer.time_iteration("wait", batches):
                with timer.measure("forward"):
                    for one, output in self._forward_with_retry(batch.inputs):
                        self._answers.setdefault(one.item.image_id, {})[one.view_index] = output
                batch.inputs.clear()  # the answers wait for the writer, the images need not
                if batch.items:
                    yield (
                        batch.shard,
                        [(item, self._answers.pop(item.image_id, {})) for item in batch.items],
                    )

    def make_tables(self, answered: Sequence[ItemOutputs]) -> tuple[pa.Table, pa.Table]:
        """(rows of `images`, rows of `predictions` that the filters keep). Called behind the forward pass."""
        with self.loader.timer.measure("rows"):
            items = [item for item, _ in answered]
            good = [(item, answers) for item, answers in answered if item.status is Status.OK]
            predictions = self.schema.empty_table()
            if good:
                found = [self._merged(item, answers) for item, answers in good]
                in_order = [item for item, _ in good]
                predictions = add_carried_values(
                    self.keep(self.task.make_rows(found, in_order)), in_order, self.schema
                )
            return make_image_rows(items, predictions, make_images_schema(self.schema)), predictions

    def _merged(self, item: Item, answers: Mapping[int, Output]) -> Output:
        """What the model said of the item's views, which came in the order of the batches, as one answer."""
        return self.loader.views.merge(
            [answers[number] for number in range(len(item.views))], item.views
        )

    def _forward_with_retry(self, inputs: Sequence[ModelInput]) -> list[tuple[ModelInput, Output]]:
        """The inputs that the model could take, with its outputs, in order. A batch that fails is halved until the culprit
        is alone; its image alone is lost. Other views of a lost image are left out. Once memory was too short for a batch,
        later ones are no larger than what fitted."""
        inputs = [one for one in inputs if one.item.status is Status.OK]
        if not inputs:
            return []
        most = max(1, self._fits // inputs[0].pixels.numel())
        if len(inputs) > most:
            return [
                pair
                for at in range(0, len(inputs), most)
                for pair in self._forward_with_retry(inputs[at : at + most])
            ]
        error: Exception | None = None
        try:
            with self.loader.guard.board.track([one.item.image_id for one in inputs], _FORWARD_S):
                outputs = self.engine.forward(
                    [one.pixels for one in inputs], [one.size_hw for one in inputs]
                )
            self._a_forward_succeeded = True
            return _finite(inputs, outputs)
        except PipelineError:
            raise
        except Exception as caught:  # noqa: BLE001 - the network is anybody's code
            error = caught.with_traceback(
                None
            )  # frames would keep the device's memory alive during the retry
        if isinstance(error, torch.OutOfMemoryError):
            torch.cuda.empty_cache()
        if len(inputs) > 1:
            half = len(inputs) // 2
            if is_out_of_memory(error):
                log.warning(
                    "Not enough memory for a batch of %d: going on with %d of this size.",
                    len(inputs),
                    half,
                )
                self._fits = half * inputs[0].pixels.numel()
            return self._forward_with_retry(inputs[:half]) + self._forward_with_retry(inputs[half:])
        if not self._a_forward_succeeded:
            self._probe(error)
        status = Status.OUT_OF_MEMORY if is_out_of_memory(error) else Status.MODEL_ERROR
        inputs[0].item.fail(status, f"{type(error).__name__}: {error}")
        return []

    def _probe(self, error: Exception) -> None:
        """Before an image is blamed: a model that cannot take a plain grey picture either is itself broken."""
        frames = self.loader.source.clip_length
        grey = torch.full(
            (3, 256, 256) if frames is None else (frames, 3, 256, 256), 127, dtype=torch.uint8
        )
        try:
            self.engine.forward([self.loader.model.preprocess(grey)], [(256, 256)])
        except Exception:  # noqa: BLE001
            raise PipelineError(
                f"The model fails on every image: {type(error).__name__}: {error}"
            ) from error
        self._a_forward_succeeded = True


def _finite(inputs: Sequence[ModelInput], outputs: Outputs) -> list[tuple[ModelInput, Output]]:
    """A NaN is a failure, not zero detections: every comparison with a threshold would be false."""
    floats = [
        [value for value in output.values() if value.is_floating_point()] for output in outputs
    ]
    if bool(
        torch.cat([value.reshape(-1) for values in floats for value in values]).isfinite().all()
    ):  # nearly always
        return list(zip(inputs, outputs, strict=True))
    kept = []
    for one, output, values in zip(inputs, outputs, floats, strict=True):
        if all(value.isfinite().all() for value in values):
            kept.append((one, output))
        else:
            one.item.fail(Status.MODEL_ERROR, "the model returned NaN or infinity")
    return kept


def is_out_of_memory(error: Exception) -> bool:
    # torch's CPU allocator raises a plain RuntimeError
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "not enough memory" in str(
        error
    )
