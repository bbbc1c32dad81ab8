"""Shard ids handed out in this process."""

from pipeline.executor.local import Local


def test_every_shard_is_handed_out_once_and_in_order() -> None:
    seen: list[int] = []
    Local().run([3, 5, 8], seen.extend)
    assert seen == [3, 5, 8]
