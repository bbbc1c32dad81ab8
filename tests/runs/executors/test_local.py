"""Shards done in this process."""

from collections.abc import Iterable

from pipeline.runs.executors.local import Local


class Seen:
    """Work that only notes what it is given."""

    def __init__(self) -> None:
        self.shard_ids: list[int] = []

    def here(self, shard_ids: Iterable[int]) -> None:
        self.shard_ids += shard_ids


def test_every_shard_is_done_once_and_in_order() -> None:
    work = Seen()
    assert Local().run([3, 5, 8], work) is None  # type: ignore[arg-type]
    assert work.shard_ids == [3, 5, 8]
