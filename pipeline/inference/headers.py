"""Read the sizes of a shard's images from their headers, without decoding pixels."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain

from pipeline.core.protocols import Source
from pipeline.core.timing import StageTimer
from pipeline.core.types import Entry, ExcludedInput, Failure, InputError, Item, Shard, View
from pipeline.inference.memory_plan import MemoryPlan
from pipeline.inference.views import Views
from pipeline.inference.watchdog import Watchdog

_CHUNKS_PER_WORKER = 4


@dataclass(frozen=True)
class Header:
    """The content of one header: the size of the image, and the views that follow from it."""

    size_hw: tuple[int, int]  # pixels, upright frame
    views: tuple[View, ...]


@dataclass(frozen=True)
class HeaderReader:
    """Reads headers in the threads of a pool.

    The threads return outcomes and change no shared state.
    """

    source: Source
    views: Views
    plan: MemoryPlan
    excluded: Mapping[int, ExcludedInput]  # image_id -> why this input must not be touched
    watchdog: Watchdog
    timer: StageTimer

    def read_shard(self, shard: Shard, pool: ThreadPoolExecutor, workers: int) -> list[Item]:
        """Return one item per entry of the shard, in order.

        An item whose header cannot be read holds the failure.
        """
        planned = list(enumerate(shard.entries, start=shard.first_image_id))
        # Reading a header takes about as long as passing a call to another thread. So one call
        # reads many headers.
        length = max(1, -(-len(planned) // (_CHUNKS_PER_WORKER * workers)))
        chunks = [planned[at : at + length] for at in range(0, len(planned), length)]
        outcomes = chain.from_iterable(pool.map(self._read_chunk, chunks))
        return [
            self._make_item(image_id, entry, outcome)
            for (image_id, entry), outcome in zip(planned, outcomes, strict=True)
        ]

    def _read_chunk(self, planned: Sequence[tuple[int, Entry]]) -> list[Header | Failure]:
        return [self._read_header(image_id, entry) for image_id, entry in planned]

    def _read_header(self, image_id: int, entry: Entry) -> Header | Failure:
        if excluded := self.excluded.get(image_id):
            return Failure(excluded.status, excluded.error)
        try:
            with self.timer.measure("read"), self.watchdog.watch([image_id]):
                size_hw = self.source.read_size_hw(entry, self.plan.limits.max_pixels)
            if too_thin := self.plan.limits.find_thinness(size_hw):
                return too_thin
            return Header(size_hw, self.views.list_views(size_hw))
        except (InputError, OSError) as error:
            return Failure.from_error(error)

    def _make_item(self, image_id: int, entry: Entry, outcome: Header | Failure) -> Item:
        item = Item(image_id, entry.key, entry=entry)
        if isinstance(outcome, Failure):
            return item.with_failure(outcome)
        item = Item(image_id, entry.key, outcome.size_hw, entry=entry, views=outcome.views)
        refusal = self.plan.refuse(item)
        return item.with_failure(refusal) if refusal else item
