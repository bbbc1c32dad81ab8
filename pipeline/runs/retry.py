"""`retry=errors`: images whose status is an error, once more. Their shards are committed anew, with the rows of all other
images as they were."""

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.core.tables import mark_failed
from pipeline.core.types import Shard
from pipeline.runs.plan import Plan
from pipeline.runs.run_folder import RunFolder
from pipeline.runs.shard_writer import ShardRunner, ShardWriter


def find_shards_with_errors(
    folder: RunFolder, plan: Plan, index: int = 0, count: int = 1
) -> list[int]:
    """The committed shards in which an image failed, in order: of all, or of every `count`-th."""
    return [
        shard_id
        for shard_id in sorted(folder.committed_shards() & set(range(index, plan.n_shards, count)))
        if pc.any(mark_failed(_rows(folder, "images", shard_id, ["status"]))).as_py()
    ]


def retry_failed_images(runner: ShardRunner, shard_ids: list[int]) -> None:
    """Compute the failed images of these shards again."""
    with ShardWriter(runner) as writer:
        for shard_id in shard_ids:
            shard = runner.plan.read_shard(shard_id)
            images, predictions = (
                _rows(runner.folder, kind, shard_id) for kind in ("images", "predictions")
            )
            again = images.filter(mark_failed(images))["image_id"].to_pylist()
            writer.keep(shard, images.filter(pc.invert(mark_failed(images))), predictions)
            for _, answered in runner.predictor.predict(_alone(shard, again), runner.timer):
                writer.write(shard, answered)
                runner.progress.add_retried([item for item, _ in answered])


def _alone(shard: Shard, image_ids: list[int]) -> Iterator[Shard]:
    for image_id in image_ids:
        yield Shard(shard.shard_id, image_id, (shard.entries[image_id - shard.first_image_id],))


def _rows(
    folder: RunFolder, kind: str, shard_id: int, columns: list[str] | None = None
) -> pa.Table:
    return pq.read_table(
        folder.local(folder.part_name(kind, shard_id)), columns=columns, partitioning=None
    )
