"""Every shard in this process."""

from collections.abc import Callable, Iterable, Sequence


class Local:
    """Hands all shards to one runner, in order, so that it can read ahead across their borders."""

    def run(self, shard_ids: Sequence[int], work: Callable[[Iterable[int]], None]) -> None:
        work(shard_ids)
