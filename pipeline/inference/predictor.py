"""Run the model over shards: images in, prediction tables out."""

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import NamedTuple

import pyarrow as pa
from torch import Tensor

from pipeline.core.inflight import InFlightTable
from pipeline.core.protocols import Engine, Filter, Task
from pipeline.core.schema import (
    add_carried_values,
    add_source_columns,
    make_image_rows,
    make_images_schema,
)
from pipeline.core.timing import StageTimer
from pipeline.core.types import (
    Batch,
    Entry,
    ExcludedInput,
    Failure,
    Item,
    ModelInput,
    Output,
    Shard,
    Status,
)
from pipeline.inference.forward import ForwardRunner, Outcome
from pipeline.inference.grey_image import make_grey_image
from pipeline.inference.loader import Loader
from pipeline.inference.originals import read_original
from pipeline.inference.prefetched_shards import PrefetchedShards


class ItemOutputs(NamedTuple):
    """A finished input with the model's outputs of its views; a failed one may lack some."""

    item: Item
    outputs: Mapping[int, Output]  # by view index


@dataclass
class Predictor:
    """A loaded model with its loader, task and filters.

    Every input comes out once: with the model's outputs, or as a failed item. The other rooms use
    the properties and methods below and do not reach into the loader.
    """

    loader: Loader
    engine: Engine
    task: Task
    keep: Filter
    schema: pa.Schema = field(init=False)  # of the predictions
    _forward: ForwardRunner = field(init=False, repr=False)

    def __post_init__(self) -> None:
        source = self.loader.source
        self.schema = add_source_columns(self.task.schema, source.columns)
        self._forward = ForwardRunner(
            self.engine,
            self.loader.watchdog,
            lambda: self.preprocess(make_grey_image(source.clip_length)),
        )

    # --- inference

    def predict(
        self,
        shards: Iterable[Shard],
        timer: StageTimer | None = None,
        prefetched: PrefetchedShards | None = None,
    ) -> Generator[tuple[Shard, list[ItemOutputs]], None, None]:
        """Yield the inputs that each batch finishes, with their shard.

        Args:
            shards: the inputs, in order.
            timer: measures the stages of the loader and of the forward pass.
            prefetched: from `open_prefetched`, if inputs are read again behind the forward pass.
        """
        timer = timer or StageTimer()
        unfinished = UnfinishedItems()
        with closing(self.loader.load_batches(shards, timer, prefetched)) as batches:
            for batch in timer.time_iteration("wait", batches):
                with timer.measure("forward"):
                    unfinished.add(self._forward.run(unfinished.select_inputs(batch)))
                shard, items = batch.shard, batch.items
                del batch  # the outputs wait for the writer, the inputs need not
                if items:
                    yield shard, [unfinished.finish(item) for item in items]

    def make_tables(self, finished: Sequence[ItemOutputs]) -> tuple[pa.Table, pa.Table]:
        """Return the rows of `images`, and the rows of `predictions` that the filters keep."""
        items = [item for item, _ in finished]
        ok = [(item, outputs) for item, outputs in finished if item.status is Status.OK]
        predictions = self.schema.empty_table()
        if ok:
            merged = [self._merge_views(item, outputs) for item, outputs in ok]
            ok_items = [item for item, _ in ok]
            rows = self.keep(self.task.make_rows(merged, ok_items))
            predictions = add_carried_values(rows, ok_items, self.schema)
        return make_image_rows(items, predictions, make_images_schema(self.schema)), predictions

    def _merge_views(self, item: Item, outputs: Mapping[int, Output]) -> Output:
        in_order = [outputs[view_index] for view_index in range(len(item.views))]
        return self.loader.views.merge(in_order, item.views)

    # --- what other rooms need of the loader, the model and the source

    @property
    def batch_size(self) -> int:
        return self.loader.batch_size

    @property
    def decode_workers(self) -> int:
        return self.loader.workers

    @property
    def excluded(self) -> Mapping[int, ExcludedInput]:
        """Inputs that are not touched, by image_id."""
        return self.loader.excluded

    @property
    def in_flight(self) -> InFlightTable:
        """The table in which this process registers inputs in work."""
        return self.loader.watchdog.in_flight

    @property
    def weights_sha256(self) -> str | None:
        return self.loader.model.weights_sha256

    @property
    def preprocess(self) -> Callable[[Tensor], Tensor]:
        """The model's preprocessing of one image, (3, H, W) uint8, or clip, (T, 3, H, W)."""
        return self.loader.model.preprocess

    def load_batches(self, shards: Iterable[Shard]) -> Generator[Batch, None, None]:
        """Yield the batches without a forward pass, for measurements."""
        return self.loader.load_batches(shards)

    def read_original(self, image_id: int, entry: Entry, size_hw: tuple[int, int]) -> Tensor:
        """Read one image again: (3, H, W) uint8 RGB, upright; of a clip its middle frame.

        `size_hw`: its height and width, which decide when memory is free for it.
        Raises InputError and OSError.
        """
        loader = self.loader
        with loader.memory_plan.admit(loader.memory_plan.estimate_decoding(size_hw, entry)):
            return read_original(loader.source, loader.max_pixels, loader.watchdog, image_id, entry)

    def open_prefetched(self) -> PrefetchedShards:
        """Return a context that keeps prefetched shards until they are released, or to its end."""
        return self.loader.open_prefetched()


class UnfinishedItems:
    """Outputs and failures of views whose image has further views in later batches."""

    def __init__(self) -> None:
        self._outputs: dict[int, dict[int, Output]] = {}  # image_id -> view index -> output
        self._failures: dict[int, Failure] = {}  # by image_id, the first failure of each

    def select_inputs(self, batch: Batch) -> list[ModelInput]:
        """Return the batch's inputs without those of images that have failed."""
        return [one for one in batch.inputs if one.item.image_id not in self._failures]

    def add(self, outcomes: Iterable[Outcome]) -> None:
        for model_input, outcome in outcomes:
            image_id = model_input.item.image_id
            if isinstance(outcome, Failure):
                self._failures.setdefault(image_id, outcome)
            else:
                self._outputs.setdefault(image_id, {})[model_input.view_index] = outcome

    def finish(self, item: Item) -> ItemOutputs:
        """Remove and return everything about one item."""
        outputs = self._outputs.pop(item.image_id, {})
        failure = self._failures.pop(item.image_id, None)
        if failure and item.status is Status.OK:
            item = item.with_failure(failure)
        return ItemOutputs(item, outputs)
