"""`retry=errors`: compute the images again whose status is an error.

Their shards are committed again, with the rows of all other images as they were.
"""

from collections.abc import Iterator, Sequence
from contextlib import closing

import pyarrow.compute as pc

from pipeline.core.tables import mark_failed
from pipeline.core.types import Shard
from pipeline.runs.plan import Plan
from pipeline.runs.run_folder import RunFolder, read_part
from pipeline.runs.shard_writer import ShardRunner, ShardWriter


def find_shards_with_errors(
    folder: RunFolder, plan: Plan, index: int = 0, count: int = 1
) -> list[int]:
    """Return the committed shards with a failed image, in order.

    Only every `count`-th shard is looked at, beginning with `index`.
    """
    committed = sorted(folder.committed_shards() & set(range(index, plan.n_shards, count)))
    return [
        shard_id
        for shard_id in committed
        if pc.any(mark_failed(read_part(folder, "images", shard_id, ["status"]))).as_py()
    ]


def retry_failed_images(runner: ShardRunner, shard_ids: Sequence[int]) -> None:
    """Compute the failed images of these shards again and commit the shards."""
    predictor = runner.predictor
    with predictor.open_prefetched() as prefetched, ShardWriter(runner, prefetched) as writer:
        for shard_id in shard_ids:
            shard = runner.plan.read_shard(shard_id)
            images, predictions = (
                read_part(runner.folder, kind, shard_id) for kind in ("images", "predictions")
            )
            failed = images.filter(mark_failed(images))["image_id"].to_pylist()
            writer.write_tables(shard, images.filter(pc.invert(mark_failed(images))), predictions)
            singles = _make_single_shards(shard, failed)
            with closing(predictor.predict(singles, runner.timer, prefetched)) as outcomes:
                for _, finished in outcomes:
                    writer.write(shard, finished)
                    runner.progress.add_retried([item for item, _ in finished])


def _make_single_shards(shard: Shard, image_ids: Sequence[int]) -> Iterator[Shard]:
    """Yield a shard of one input for each image, so that each is a batch of its own."""
    for image_id in image_ids:
        entry = shard.entries[image_id - shard.first_image_id]
        yield Shard(shard.shard_id, image_id, (entry,))
