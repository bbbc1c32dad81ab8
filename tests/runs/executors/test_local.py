"""Shards that are computed in this process."""

from collections.abc import Iterable
from contextlib import nullcontext

from pipeline.core.protocols import ExecutionResult, ShardJob
from pipeline.runs.executors.local import Local


def test_every_shard_is_done_once_and_in_order() -> None:
    computed: list[int] = []

    def run_here(shard_ids: Iterable[int]) -> ExecutionResult:
        computed.extend(shard_ids)
        return ExecutionResult(images=len(computed))

    job = ShardJob(run_here, {}, nullcontext)  # type: ignore[arg-type]
    result = Local().run([3, 5, 8], job)
    assert result == ExecutionResult(images=3) and result.message is None
    assert computed == [3, 5, 8]
