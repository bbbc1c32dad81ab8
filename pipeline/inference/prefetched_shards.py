"""Announce shards to a source, so that it can prefetch them, and release each of them once."""

from collections.abc import Mapping
from threading import Lock

from pipeline.core.protocols import Source
from pipeline.core.types import Entry, ExcludedInput, Shard


class PrefetchedShards:
    """Shards that a source prefetches.

    Each is released as soon as it is committed, or else at the end of the `with` block, whatever
    ends it. Threads may share it.

    Args:
        source: where the inputs come from.
        seconds: timeout of one input.
        excluded: by image_id, inputs that must not be touched.
    """

    def __init__(
        self, source: Source, seconds: float, excluded: Mapping[int, ExcludedInput]
    ) -> None:
        self._source, self._seconds, self._excluded = source, seconds, excluded
        self._announced: dict[int, list[Entry]] = {}  # by shard id
        self._lock = Lock()

    def __enter__(self) -> "PrefetchedShards":
        return self

    def __exit__(self, *error: object) -> None:
        for shard_id in list(self._announced):
            self.release(shard_id)

    def announce(self, shard: Shard) -> Shard:
        """Tell the source which entries will be read next. Returns the shard."""
        wanted = [
            entry
            for image_id, entry in enumerate(shard.entries, start=shard.first_image_id)
            if image_id not in self._excluded
        ]
        with self._lock:
            self._announced.setdefault(shard.shard_id, []).extend(wanted)
        self._source.prefetch(wanted, self._seconds)
        return shard

    def release(self, shard_id: int) -> None:
        """Tell the source that a shard is finished, so that it can free what it keeps of it."""
        with self._lock:
            entries = self._announced.pop(shard_id, [])
        self._source.release(entries)
