"""Cut decoded groups of images into batches of one padded shape."""

from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from torch import Tensor

from pipeline.core.types import Batch, Failure, Item, ModelInput, Shard, Status
from pipeline.inference.batching import group_by_bucket
from pipeline.inference.decode import Decoded, Decoder, DecodingGroup
from pipeline.inference.memory_plan import MemoryPlan

ItemView = tuple[Item, int]  # an item and the index of one of its views


class GroupPixels:
    """Decoded pixels of one group that are not in a batch yet.

    Only the thread that makes batches uses it. Pixels are removed when their batch is made, so
    memory is freed batch by batch.
    """

    def __init__(self, group: DecodingGroup) -> None:
        self.failures: dict[int, Failure] = {}  # by image_id
        self.images: dict[int, Tensor] = {}  # by image_id; inputs are cut from them batch by batch
        self._inputs: dict[tuple[int, int], Tensor] = {}  # by (image_id, view index)
        for item, outcome in group.wait():
            self._add(item.image_id, outcome)

    def _add(self, image_id: int, outcome: Decoded | Failure) -> None:
        if isinstance(outcome, Failure):
            self.failures[image_id] = outcome
            return
        if outcome.image is not None:
            self.images[image_id] = outcome.image
        for view_index, pixels in outcome.inputs.items():
            self._inputs[image_id, view_index] = pixels

    def add_input(self, image_id: int, view_index: int, made: Tensor | Failure) -> None:
        """Add an input that was made from an image. A failure drops the image's pixels."""
        if image_id in self.failures:
            return
        if isinstance(made, Failure):
            self.failures[image_id] = made
            self.images.pop(image_id)
        else:
            self._inputs[image_id, view_index] = made

    def take_inputs(self, item_views: Sequence[ItemView]) -> tuple[ModelInput, ...]:
        """Remove and return the inputs of these views. Views of failed images are left out."""
        taken = [
            (item, view_index, self._inputs.pop((item.image_id, view_index), None))
            for item, view_index in item_views
        ]
        return tuple(
            ModelInput(item, view_index, pixels)
            for item, view_index, pixels in taken
            if pixels is not None and item.image_id not in self.failures
        )

    def finish(self, item: Item) -> Item:
        """Drop the remaining pixels of an image. Return its item with any failure."""
        self.images.pop(item.image_id, None)
        failure = self.failures.get(item.image_id)
        return item.with_failure(failure) if failure else item


@dataclass(frozen=True)
class BatchMaker:
    """Makes batches of one bucket from the views of a group's images."""

    bucket: Callable[[tuple[int, int]], Hashable]
    batch_size: int
    decoder: Decoder
    pool: ThreadPoolExecutor
    plan: MemoryPlan

    def make_batches(self, group: DecodingGroup) -> Iterator[Batch]:
        """Wait for a group's decoding and yield its batches. Failed images come last."""
        shard, items, pixels = group.shard, group.items, GroupPixels(group)
        del group  # its futures hold all decoded pixels

        item_views = [
            (item, view_index)
            for item in items
            if item.status is Status.OK and item.image_id not in pixels.failures
            for view_index in range(len(item.views))
        ]
        buckets = [self.bucket(item.views[index].size_hw) for item, index in item_views]
        remaining_views = Counter(item.image_id for item, _ in item_views)

        costs = [
            self.plan.estimate_forward(item.views[index].size_hw) for item, index in item_views
        ]
        for positions in group_by_bucket(
            buckets, self.batch_size, costs=costs, most_cost=self.plan.most_forward
        ):
            in_batch = [item_views[position] for position in positions]
            yield self._make_batch(shard, in_batch, pixels, remaining_views)

        failed = [pixels.finish(item) for item in items if item.image_id not in remaining_views]
        if failed:
            yield Batch(shard, (), tuple(failed))

    def _make_batch(
        self,
        shard: Shard,
        item_views: Sequence[ItemView],
        pixels: GroupPixels,
        remaining_views: Counter[int],
    ) -> Batch:
        self._make_late_inputs(item_views, pixels)
        inputs = pixels.take_inputs(item_views)

        remaining_views.subtract(item.image_id for item, _ in item_views)
        in_batch = {item.image_id: item for item, _ in item_views}
        finished = [
            pixels.finish(item) for item in in_batch.values() if not remaining_views[item.image_id]
        ]
        return Batch(shard, inputs, tuple(finished))

    def _make_late_inputs(self, item_views: Sequence[ItemView], pixels: GroupPixels) -> None:
        """Make the inputs of images that were kept whole because they have very many views."""
        calls = [
            (item, index, pixels.images[item.image_id])
            for item, index in item_views
            if item.image_id in pixels.images
        ]
        made = self.pool.map(lambda call: self.decoder.make_input(*call), calls)
        for (item, view_index, _), outcome in zip(calls, made, strict=True):
            pixels.add_input(item.image_id, view_index, outcome)
