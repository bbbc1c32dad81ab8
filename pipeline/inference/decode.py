"""Decode images and turn them into model inputs, in the threads of a pool."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import groupby

from torch import Tensor

from pipeline.core.protocols import Source
from pipeline.core.timing import StageTimer
from pipeline.core.types import Entry, Failure, InputError, Item, Shard, Status
from pipeline.inference.memory_plan import MemoryPlan
from pipeline.inference.views import crop_view
from pipeline.inference.watchdog import Watchdog

Preprocess = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Decoded:
    """The model inputs of one decoded image, or the image itself if it has very many views."""

    inputs: Mapping[int, Tensor] = field(default_factory=dict)  # view index -> model input
    image: Tensor | None = None  # (3, H, W) uint8, or a clip (T, 3, H, W); inputs are made later


@dataclass(frozen=True)
class DecodingGroup:
    """Items of one shard whose decoding has begun.

    `pending` has one future per decoding call. Together their outcomes are those of all items with
    status OK, in order.
    """

    shard: Shard
    items: Sequence[Item]
    pending: Sequence[Future[list[Decoded | Failure]]]
    n_bytes: float = 0  # of the model inputs, estimated

    def wait(self) -> Iterator[tuple[Item, Decoded | Failure]]:
        """Yield each item that is OK with its outcome as soon as its call has finished."""
        decoding = (item for item in self.items if item.status is Status.OK)
        for future in self.pending:
            for outcome in future.result():
                yield next(decoding), outcome


@dataclass(frozen=True)
class Decoder:
    """Decodes images in the threads of a pool. The threads return outcomes and change no state.

    An image of more than `most_views` views is only decoded. Its inputs are made batch by batch
    with `make_input`, so that memory does not grow with the number of views.
    """

    source: Source
    preprocess: Preprocess
    max_pixels: int
    most_views: int
    watchdog: Watchdog
    timer: StageTimer
    plan: MemoryPlan

    def begin(self, shard: Shard, items: Sequence[Item], pool: ThreadPoolExecutor) -> DecodingGroup:
        """Submit the decoding of items whose headers are known.

        Consecutive items with the same group key, e.g. frames of one video, are decoded in one
        call.
        """
        calls = [
            list(neighbours)
            for _, neighbours in groupby(
                items, lambda item: self.source.group_key(planned_entry(item))
            )
        ]
        return DecodingGroup(
            shard,
            items,
            [pool.submit(self._decode, call) for call in calls],
            sum(map(self.plan.estimate_waiting, items)),
        )

    def make_input(self, item: Item, view_index: int, image: Tensor) -> Tensor | Failure:
        """Make the model input of one view of a decoded image. Runs in a decoding thread."""
        with self.watchdog.watch([item.image_id]):
            return self._make_input(item, view_index, image)

    def _decode(self, items: Sequence[Item]) -> list[Decoded | Failure]:
        entries = [planned_entry(item) for item in items]
        # The deadline begins when the memory is free.
        with (
            self.plan.admit(self._estimate_bytes(items)),
            self.watchdog.watch([item.image_id for item in items]),
        ):
            images = self.source.read(entries, self.max_pixels, self.timer.measure)
            return [
                self._make_inputs(item, image) for item, image in zip(items, images, strict=True)
            ]

    def _estimate_bytes(self, items: Sequence[Item]) -> float:
        """Return the bytes to decode these items in one call: images one by one, unless batched."""
        needed = [
            self.plan.estimate_decoding(item.size_hw, planned_entry(item))
            for item in items
            if item.size_hw is not None
        ]
        is_batched = self.source.group_key(planned_entry(items[0])) is None
        return sum(needed) if is_batched else max(needed, default=0)

    def _make_inputs(self, item: Item, image: Tensor | InputError | OSError) -> Decoded | Failure:
        if not isinstance(image, Tensor):
            return Failure.from_error(image)
        if image.shape[-2:] != item.size_hw:
            found_hw = tuple(image.shape[-2:])
            return Failure(
                Status.CORRUPT, f"the header says {item.size_hw}, the image is {found_hw} (h, w)"
            )
        if len(item.views) > self.most_views:
            return Decoded(image=image)

        inputs: dict[int, Tensor] = {}
        for view_index in range(len(item.views)):
            made = self._make_input(item, view_index, image)
            if isinstance(made, Failure):
                return made
            inputs[view_index] = made
        return Decoded(inputs)

    def _make_input(self, item: Item, view_index: int, image: Tensor) -> Tensor | Failure:
        view = item.views[view_index]
        try:
            with self.timer.measure("transform"):
                return self.preprocess(crop_view(image, view))
        except Exception as error:  # noqa: BLE001 - the model's own code, e.g. 1 x 5000 pixels resized to 0 rows
            return Failure(Status.MODEL_ERROR, f"preprocessing {view.size_hw} (h, w): {error}")


def planned_entry(item: Item) -> Entry:
    """Return the entry of an item that comes from a plan."""
    assert item.entry is not None, "a loader's items come from a plan"  # noqa: S101
    return item.entry
