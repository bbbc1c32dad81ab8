"""Compute every shard in this process."""

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.core.protocols import ExecutionResult, ShardJob


class Local:
    """Gives all shards to one runner in order, so that decoding runs ahead across shards."""

    writer = None

    def preview(self, order: Mapping[str, Any]) -> str:
        return ""

    def run(self, shard_ids: Sequence[int], job: ShardJob) -> ExecutionResult:
        return job.run_here(shard_ids)
