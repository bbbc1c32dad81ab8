"""Every shard in this process."""

from collections.abc import Sequence

from pipeline.core.protocols import Work


class Local:
    """Hands all shards to one runner, in order, so that it can read ahead across their borders."""

    writer = None

    def preview(self, work: Work) -> str:
        return ""

    def run(self, shard_ids: Sequence[int], work: Work) -> None:
        work.run_locally(shard_ids)
