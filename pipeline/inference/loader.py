"""A shard's images as batches of one padded shape, decoded and cut into views in threads ahead of the forward pass."""

import math
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import TypeVar

from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from pipeline.core.cpu import count_available_cores, disable_openmp_threads
from pipeline.core.inflight import InFlightTable
from pipeline.core.protocols import Source
from pipeline.core.timing import StageTimer
from pipeline.core.types import (
    Batch,
    Entry,
    ExcludedInput,
    InputError,
    Item,
    Model,
    ModelInput,
    Shard,
    Status,
)
from pipeline.inference.batching import group_by_bucket, prefetch_in_thread, pull_ahead
from pipeline.inference.views import Views, crop_view

T = TypeVar("T")
Upload = Callable[[Sequence[Tensor]], list[Tensor]]
_MOST_WORKERS = 32
_AHEAD = 2  # decoded batches waiting for the forward pass
_TURN = 16  # images a decoding thread has to do in its turn
_MOST_IN_TURN = (
    128  # images of all threads: their inputs wait in memory, for a large detector 13 MB each
)


@dataclass(frozen=True)
class InputGuard:
    """Against inputs that hang or kill a process. `timeout`: seconds for one to be read and decoded, or the process hangs,
    as who watches the `board` will see. `given_up`: by image_id, inputs that are not to be touched."""

    timeout: float = math.inf
    given_up: Mapping[int, ExcludedInput] = field(default_factory=dict)
    board: InFlightTable = field(default_factory=InFlightTable)

    def at(self, items: Sequence[Item]) -> AbstractContextManager[None]:
        """This thread reads and decodes these."""
        return self.board.track([item.image_id for item in items], self.timeout * len(items))


class Loader:
    """Reads each header first, groups the images by the shapes that their views will have in a batch, then decodes group by
    group. `views` says what the model is shown of an image; by default the image and nothing else.

    A shard's batches depend on its images alone, not on threads or timing. An input that cannot be used stays in its batch
    as a failed item, so what goes in comes out.
    """

    def __init__(
        self,
        source: Source,
        model: Model,
        batch_size: int,
        workers: int | None,
        max_pixels: int,
        views: Views | None = None,
        upload: Upload | None = None,
        overlap: bool = True,
        guard: "InputGuard | None" = None,
    ) -> None:
        """`upload` brings a batch's inputs to the device. `overlap`: decode and upload ahead of a forward pass that runs on
        another device. Where both run on the same cores they take turns, each with all of them: side by side, each
        would wait for the other's threads (measured on two cores, MobileNetV3: 66 images/s side by side, 77 in turns)."""
        self.source, self.model, self.views = source, model, views or Views()
        self.batch_size, self.max_pixels = (
            min(batch_size, model.max_batch or batch_size),
            max_pixels,
        )
        self.workers = workers or min(_MOST_WORKERS, count_available_cores())
        self.upload, self.overlap = upload, overlap
        self.guard = guard or InputGuard()
        self.timer = StageTimer()

    def load_batches(self, shards: Iterable[Shard]) -> Generator[Batch, None, None]:
        """All batches of the first shard, then of the next: reading ahead does not stop at a shard's end."""
        with ThreadPoolExecutor(
            self.workers, thread_name_prefix="decode", initializer=disable_openmp_threads
        ) as pool:
            told = pull_ahead(map(self._announced, shards), 1)
            groups = ((shard, group) for shard in told for group in self._groups_of(shard, pool))
            # groups in hand while the next are decoded: enough for every thread to have something to do
            begun = (
                pull_ahead(groups, -(-2 * self.workers // self.batch_size))
                if self.overlap
                else groups
            )
            batches = (
                self._uploaded(batch)
                for shard, group in begun
                for batch in self._batches_of_group(shard, group, pool)
            )
            yield from prefetch_in_thread(batches, _AHEAD) if self.overlap else batches

    def _announced(self, shard: Shard) -> Shard:
        ids = range(shard.first_image_id, shard.first_image_id + len(shard))
        wanted = [
            entry
            for i, entry in zip(ids, shard.entries, strict=True)
            if i not in self.guard.given_up
        ]
        self.source.prefetch(wanted, self.guard.timeout)
        return shard

    def _groups_of(self, shard: Shard, pool: ThreadPoolExecutor) -> Iterator["Group"]:
        """Images that are decoded together, their decoding begun. A turn on the forward pass's own cores is several batches
        long, so that all threads are busy nearly to its end. What a batch holds does not depend on that."""
        items = [
            Item(shard.first_image_id + i, entry.key, entry=entry)
            for i, entry in enumerate(shard.entries)
        ]
        each = -(
            -len(items) // (4 * self.workers)
        )  # together: a call in another thread costs as much as a header
        list(
            pool.map(
                self._read_headers, [items[at : at + each] for at in range(0, len(items), each)]
            )
        )
        readable = [item for item in items if item.views]
        failed = [item for item in items if not item.views]
        shapes = [
            frozenset(self.model.bucket(size_hw) for size_hw in {v.size_hw for v in item.views})
            for item in readable
        ]
        weights = [len(item.views) for item in readable]
        alone = (
            self.overlap or max(weights, default=1) > 1
        )  # views of several images would fill batches otherwise
        images = (
            self.batch_size
            if alone
            else max(self.batch_size, min(_TURN * self.workers, _MOST_IN_TURN))
        )
        turn = -(-images // self.batch_size) * self.batch_size
        drawn = group_by_bucket(shapes, turn, weights)
        # torch's DataLoader draws the groups; the threads are ours because worker processes cost more than they decode
        yield from DataLoader(
            _Images(readable, self, pool), batch_sampler=drawn, collate_fn=lambda group: group
        )
        if failed:
            yield Group(failed, [])

    def _batches_of_group(
        self, shard: Shard, group: "Group", pool: ThreadPoolExecutor
    ) -> Iterator[Batch]:
        """The views of all its images, as batches of one bucket. An image of more views than a batch holds is a group of its
        own; its inputs are made batch by batch, so that memory does not grow with their number."""
        items = group.decoded()
        looks = [
            (item, number)
            for item in items
            if item.status is Status.OK
            for number in range(len(item.views))
        ]
        batches = group_by_bucket(
            [self.model.bucket(item.views[i].size_hw) for item, i in looks], self.batch_size
        )
        to_come = Counter(item.image_id for item, _ in looks)
        for batch in batches:
            shown = [looks[i] for i in batch]
            inputs = self._inputs(shown, pool)
            to_come.subtract(item.image_id for item, _ in shown)
            through = [
                item
                for item in {item.image_id: item for item, _ in shown}.values()
                if not to_come[item.image_id]
            ]
            for item in through:
                item.inputs, item.pixels = {}, None
            yield Batch(shard, inputs, through)
        failed = [item for item in items if item.image_id not in to_come]
        if failed:
            yield Batch(shard, [], failed)

    def _uploaded(self, batch: Batch) -> Batch:
        if self.upload and batch.inputs:
            with self.timer.measure("copy"):
                there = self.upload([one.pixels for one in batch.inputs])
            batch.inputs[:] = [
                replace(one, pixels=pixels) for one, pixels in zip(batch.inputs, there, strict=True)
            ]
        return batch

    def _inputs(
        self, looks: Sequence[tuple[Item, int]], pool: ThreadPoolExecutor
    ) -> list[ModelInput]:
        list(
            pool.map(
                self._make_late,
                [(item, number) for item, number in looks if number not in item.inputs],
            )
        )
        made = [
            (item, number, item.inputs.pop(number, None)) for item, number in looks
        ]  # None: its image has failed
        return [
            ModelInput(item, number, pixels) for item, number, pixels in made if pixels is not None
        ]

    def _read_headers(self, items: Sequence[Item]) -> None:
        for item in items:
            if verdict := self.guard.given_up.get(item.image_id):
                item.fail(verdict.status, verdict.error)
                continue
            try:
                with self.timer.measure("read"), self.guard.at([item]):
                    item.size_hw = self.source.read_size_hw(_planned(item), self.max_pixels)
                item.views = self.views.list_views(item.size_hw)
            except (InputError, OSError) as error:
                _fail(item, error)

    def load(self, items: Sequence[Item]) -> None:
        """Read, decode and transform inputs that belong together and whose headers are known."""
        with self.guard.at(items):
            self._load(items)

    def _load(self, items: Sequence[Item]) -> None:
        read = self.source.read(
            [_planned(item) for item in items], self.max_pixels, self.timer.measure
        )
        for item, pixels in zip(items, read, strict=True):
            if not isinstance(pixels, Tensor):
                _fail(item, pixels)
            elif pixels.shape[-2:] != item.size_hw:
                item.fail(
                    Status.CORRUPT,
                    f"the header says {item.size_hw}, the image is {tuple(pixels.shape[-2:])} (h, w)",
                )
            else:
                item.pixels = pixels
                if len(item.views) <= self.batch_size:
                    for number in range(len(item.views)):
                        self._make_input((item, number))
                    item.pixels = None

    def _make_late(self, look: tuple[Item, int]) -> None:
        with self.guard.at([look[0]]):
            self._make_input(look)

    def _make_input(self, look: tuple[Item, int]) -> None:
        item, number = look
        with self.timer.measure("transform"):
            if (pixels := item.pixels) is None:  # another view of it has failed
                return
            try:
                item.inputs[number] = self.model.preprocess(crop_view(pixels, item.views[number]))
            except Exception as error:  # noqa: BLE001 - the model's own code, e.g. 1 x 5000 pixels resized to 0 rows
                item.fail(
                    Status.MODEL_ERROR,
                    f"preprocessing {item.views[number].size_hw} (h, w): {error}",
                )


def _planned(item: Item) -> Entry:
    assert item.entry is not None, "a loader's items come from a plan"  # noqa: S101
    return item.entry


def _fail(item: Item, error: InputError | OSError) -> None:
    if isinstance(error, InputError):
        item.size_hw = item.size_hw or error.size_hw
        item.fail(error.status, str(error))
    else:
        item.fail(Status.UNREADABLE, error.strerror or str(error))


@dataclass(frozen=True)
class Group:
    """Images whose decoding has begun."""

    items: list[Item]
    pending: Sequence[Future[None]]

    def decoded(self) -> list[Item]:
        for one in self.pending:
            one.result()
        return self.items


class _Images(Dataset[Item]):
    """Readable images of one shard. `__getitems__` is DataLoader's call for a whole group."""

    def __init__(self, items: Sequence[Item], loader: Loader, pool: ThreadPoolExecutor) -> None:
        self.items, self.loader, self.pool = items, loader, pool

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Item:
        (item,) = self.__getitems__([index]).decoded()
        return item

    def __getitems__(self, indices: list[int]) -> Group:
        items = [self.items[index] for index in indices]
        calls = [
            list(one)
            for _, one in groupby(items, lambda item: self.loader.source.group_key(_planned(item)))
        ]
        return Group(items, [self.pool.submit(self.loader.load, call) for call in calls])
