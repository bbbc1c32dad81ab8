"""Turn shards into batches: read headers, group images, decode ahead, upload.

`Loader.load_batches` connects these stages. Each pulls from the one above it::

    Iterable[Shard]
       |  announce        Tell the source which entries come next, one shard ahead, so that a source
       |                  on the network can fetch them.
       v  Shard
       |  read headers    Threads of the pool return Header or Failure. No pixels in memory. An
       |                  image that is too large for its limits fails here (MemoryPlan).
       v  list[Item]
       |  group           Items whose views share shape buckets, drawn through torch's DataLoader.
       |  begin decoding  Threads of the pool return Decoded or Failure, as futures. Each waits
       |                  until the memory plan admits its image.
       v  DecodingGroup   IN MEMORY: model inputs of the groups that were begun ahead, about two
       |                  images per thread, or less if the memory plan says so.
       |  make batches    Waits for the group, groups the views of its images by bucket.
       v  Batch           IN MEMORY: what is left of the group (GroupPixels).
       |  upload          Copies the inputs to the device (GPU only).
       v  Batch
       |  prefetch        IN MEMORY: a queue of two batches.
       v  Batch           to the predictor, which owns its memory from here on

With `overlap` one "prefetch" thread runs all stages but the threads of the pool ("decode"), ahead
of the forward pass in the calling thread. Without `overlap` the calling thread runs them, nothing
is decoded before it is asked for, and the queue does not exist.

No stage keeps a reference to a value that it has handed on: memory is freed when the predictor
drops a batch. All values are frozen. Threads return outcomes, and one consumer combines them.
"""

import math
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from pipeline.core.cpu import count_available_cores, disable_openmp_threads
from pipeline.core.protocols import Source
from pipeline.core.timing import StageTimer
from pipeline.core.types import Batch, ExcludedInput, Item, Model, Shard, Status
from pipeline.inference.batch_maker import BatchMaker
from pipeline.inference.batching import group_by_bucket, prefetch_in_thread, pull_ahead
from pipeline.inference.decode import Decoder, DecodingGroup
from pipeline.inference.headers import HeaderReader
from pipeline.inference.memory_plan import ImageLimits, MemoryPlan
from pipeline.inference.prefetched_shards import PrefetchedShards
from pipeline.inference.views import Views
from pipeline.inference.watchdog import Watchdog

BeginDecoding = Callable[[Shard, Sequence[Item]], DecodingGroup]
Upload = Callable[[Sequence[Tensor]], list[Tensor]]
_MOST_WORKERS = 32
_PREFETCHED_BATCHES = 2
# Without overlap a group is what the decoding threads do in one turn. Its inputs wait in memory,
# for a large detector 13 MB each, hence the upper limit.
_IMAGES_PER_THREAD_IN_TURN = 16
_MOST_IMAGES_IN_TURN = 128


class Loader:
    """Loads shards as batches of one padded shape, decoded ahead of the forward pass.

    A shard's batches depend on its images alone, not on threads or timing. An input that cannot be
    used comes out as a failed item, so each input comes out exactly once.

    Args:
        source: where the images come from.
        model: preprocesses the images and gives their shape buckets.
        batch_size: the most inputs of a batch, further limited by the model's `max_batch`.
        workers: decoding threads; None: as many as cores, 32 at most.
        limits: of one image, and of the memory for images in work.
        views: which views of an image the model sees; by default the whole image only.
        upload: copies a batch's inputs to the device.
        overlap: decode ahead of a forward pass that runs on another device. Where both run on the
            same cores they take turns instead, because side by side each waits for the other's
            threads (two cores, MobileNetV3: 66 images/s side by side, 77 in turns).
        watchdog: registers inputs in work, with a deadline.
        excluded: by image_id, inputs that must not be touched. They come out as failed items.
    """

    def __init__(
        self,
        source: Source,
        model: Model,
        batch_size: int,
        workers: int | None,
        limits: ImageLimits,
        views: Views | None = None,
        upload: Upload | None = None,
        overlap: bool = True,
        watchdog: Watchdog | None = None,
        excluded: Mapping[int, ExcludedInput] | None = None,
    ) -> None:
        self.source, self.model, self.views = source, model, views or Views()
        self.batch_size = min(batch_size, model.max_batch or batch_size)
        self.workers = workers or min(_MOST_WORKERS, count_available_cores())
        self.max_pixels = limits.max_pixels
        self.upload, self.overlap = upload, overlap
        self.watchdog = watchdog or Watchdog()
        self.excluded = {} if excluded is None else excluded
        self.memory_plan = MemoryPlan(limits, model, overlap, source.clip_length, self.batch_size)

    def load_batches(
        self,
        shards: Iterable[Shard],
        timer: StageTimer | None = None,
        prefetched: PrefetchedShards | None = None,
    ) -> Generator[Batch, None, None]:
        """Yield all batches of the first shard, then of the next. Prefetching crosses shards.

        Args:
            shards: the inputs, in order.
            timer: measures the stages.
            prefetched: announces the shards to the source; its owner releases them. By default
                they are released at the end.
        """
        timer = timer or StageTimer()
        with (
            nullcontext(prefetched) if prefetched else self.open_prefetched() as announcer,
            ThreadPoolExecutor(
                self.workers, thread_name_prefix="decode", initializer=disable_openmp_threads
            ) as pool,
        ):
            batches = self._connect_stages(map(announcer.announce, shards), pool, timer)
            if self.overlap:
                batches = prefetch_in_thread(batches, _PREFETCHED_BATCHES)
            yield from batches

    def open_prefetched(self) -> PrefetchedShards:
        """Return a context in which shards are announced to the source, and released at its end."""
        return PrefetchedShards(self.source, self.watchdog.timeout, self.excluded)

    def _connect_stages(
        self, shards: Iterable[Shard], pool: ThreadPoolExecutor, timer: StageTimer
    ) -> Iterator[Batch]:
        """Connect the stages of the diagram above, all but the last.

        `map` and `chain` keep no reference to the values that pass through them. A `for` loop or a
        generator expression would keep one, and with it the memory of a batch.
        """
        headers = HeaderReader(
            self.source, self.views, self.memory_plan, self.excluded, self.watchdog, timer
        )
        decoder = Decoder(
            self.source,
            self.model.preprocess,
            self.max_pixels,
            self.batch_size,
            self.watchdog,
            timer,
            self.memory_plan,
        )
        batch_maker = BatchMaker(
            self.model.bucket, self.batch_size, decoder, pool, self.memory_plan
        )

        announced = pull_ahead(shards, 1)
        items = ((shard, headers.read_shard(shard, pool, self.workers)) for shard in announced)
        begin = partial(decoder.begin, pool=pool)
        groups: Iterator[DecodingGroup] = chain.from_iterable(
            self._begin_groups(shard, of_shard, begin) for shard, of_shard in items
        )
        if self.overlap:
            # enough groups for every thread to have something to do
            depth = math.ceil(2 * self.workers / self.batch_size)
            groups = pull_ahead(
                groups, depth, lambda group: group.n_bytes, self.memory_plan.most_ahead
            )
        batches = chain.from_iterable(map(batch_maker.make_batches, groups))
        return map(partial(self._upload, timer=timer), batches)

    def _begin_groups(
        self, shard: Shard, items: Sequence[Item], begin: BeginDecoding
    ) -> Iterator[DecodingGroup]:
        """Group the items that can be read, and yield each group with its decoding begun.

        The rest, if any, is the last group.
        """
        readable = [item for item in items if item.status is Status.OK]
        failed = [item for item in items if item.status is not Status.OK]
        # DataLoader draws the groups and hands each to `ReadableItems`, which begins its decoding
        # in our threads. Its worker processes are not used: to send an image from one process to
        # another costs more than to decode it (measured).
        yield from DataLoader(
            ReadableItems(shard, readable, begin),
            batch_sampler=self._group_positions(readable),
            collate_fn=_return_unchanged,
        )
        if failed:
            yield DecodingGroup(shard, failed, [])

    def _group_positions(self, items: Sequence[Item]) -> list[list[int]]:
        """Group the positions of items that are decoded together.

        Images in a group have views of the same set of buckets. With `overlap` a group fills one
        batch. Without it a group is several batches, so that all threads are busy nearly until the
        end of their turn. What a batch holds does not depend on that.
        """
        buckets = [
            frozenset(self.model.bucket(size_hw) for size_hw in {v.size_hw for v in item.views})
            for item in items
        ]
        weights = [len(item.views) for item in items]
        costs = [self.memory_plan.estimate_waiting(item) for item in items]
        most_cost = self.memory_plan.most_waiting
        images = self.batch_size
        # Images of several views would fill batches in another order in a larger group.
        if not self.overlap and max(weights, default=1) == 1:
            turn = min(_IMAGES_PER_THREAD_IN_TURN * self.workers, _MOST_IMAGES_IN_TURN)
            batches = math.ceil(max(self.batch_size, turn) / self.batch_size)
            fitting = int(most_cost // (self.batch_size * max([1, *costs])))
            images = self.batch_size * max(1, min(batches, fitting))
        return group_by_bucket(buckets, images, weights, costs, most_cost)

    def _upload(self, batch: Batch, timer: StageTimer) -> Batch:
        """Return the batch with its inputs on the device."""
        if not self.upload or not batch.inputs:
            return batch
        with timer.measure("copy"):
            on_device = self.upload([model_input.pixels for model_input in batch.inputs])
        uploaded = [
            replace(model_input, pixels=pixels)
            for model_input, pixels in zip(batch.inputs, on_device, strict=True)
        ]
        return replace(batch, inputs=tuple(uploaded))


@dataclass(frozen=True)
class ReadableItems(Dataset[Item]):
    """Items of one shard as a dataset for torch's DataLoader."""

    shard: Shard
    items: Sequence[Item]
    begin: BeginDecoding = field(repr=False)

    def __len__(self) -> int:
        return len(self.items)

    def __getitems__(self, indices: list[int]) -> DecodingGroup:
        """Begin to decode one group. DataLoader calls this with what its batch sampler drew."""
        return self.begin(self.shard, [self.items[index] for index in indices])


def _return_unchanged(group: Any) -> Any:
    """Return the group. Replaces the DataLoader's own collation, which would stack tensors."""
    return group
