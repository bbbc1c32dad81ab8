"""Draw pictures that a run lacks from its committed rows, without the model.

Pictures determine no rows, so they are no part of the fingerprint: `overlays=true` on a run without
overlays finds the same run folder and draws what is missing. Pictures that exist are left as they
are.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from torch import Tensor

from pipeline.config.settings import Settings
from pipeline.core.inflight import InFlightTable
from pipeline.core.output_protocols import PictureSink, Sink, SinkContext
from pipeline.core.schema import add_source_columns
from pipeline.core.types import Entry, InputError, Shard
from pipeline.inference.originals import read_original
from pipeline.inference.watchdog import Watchdog
from pipeline.runs.components import Components
from pipeline.runs.isolation.quarantine import Quarantine
from pipeline.runs.plan import Plan
from pipeline.runs.progress import ProgressBar
from pipeline.runs.run_folder import RunFolder, read_part

ReadImage = Callable[[int, Entry], Tensor]  # image_id, entry -> (3, H, W) uint8 RGB


def count_pictured(sinks: Mapping[str, Sink], first_image_id: int, n_images: int) -> dict[str, int]:
    """Return how many images each picture sink draws, counted from the first of a shard."""
    return {
        name: sink.count_pictured(first_image_id, n_images)
        for name, sink in sinks.items()
        if isinstance(sink, PictureSink)
    }


def make_image_reader(shard: Shard, read_image: ReadImage) -> Callable[[str], Tensor]:
    """Return a function that reads an image of the shard by its key."""
    positions = {entry.key: i for i, entry in enumerate(shard.entries)}

    def read(key: str) -> Tensor:
        position = positions[key]
        return read_image(shard.first_image_id + position, shard.entries[position])

    return read


@dataclass(frozen=True)
class ShardPictures:
    """Pictures that one committed shard lacks."""

    shard_id: int
    existing: Mapping[str, int]  # sink name -> images, from the shard's first, with pictures
    expected: Mapping[str, int]  # sink name -> the same after drawing, larger than `existing`

    @property
    def n_images(self) -> int:
        """The number of images to read and draw, counted once for all sinks."""
        return max(self.expected[name] - self.existing[name] for name in self.expected)


def find_lacking_pictures(
    folder: RunFolder, plan: Plan, sinks: Mapping[str, Sink], index: int, count: int
) -> list[ShardPictures]:
    """Return the committed shards that lack pictures of the sinks.

    Only every `count`-th shard is looked at, beginning with `index`.
    """
    if not any(isinstance(sink, PictureSink) for sink in sinks.values()):
        return []
    committed, lacking, first_image_id = folder.committed_shards(), [], 0
    for shard_id, n_images in plan.shard_sizes():
        if shard_id in committed and shard_id % count == index:
            drawn = folder.read_marker(shard_id).get("pictures", {})
            expected = count_pictured(sinks, first_image_id, n_images)
            more = {name: n for name, n in expected.items() if n > drawn.get(name, 0)}
            existing = {name: drawn.get(name, 0) for name in more}
            if more:
                lacking.append(ShardPictures(shard_id, existing, more))
        first_image_id += n_images
    return lacking


class PictureDrawer:
    """Draws lacking pictures shard by shard, and commits each shard's."""

    def __init__(
        self, settings: Settings, parts: Components, folder: RunFolder, plan: Plan
    ) -> None:
        self.parts, self.folder, self.plan = parts, folder, plan
        self.max_pixels = settings.max_pixels
        self.in_flight = InFlightTable.attach()
        self.watchdog = Watchdog(settings.timeout, self.in_flight)
        self.quarantine = Quarantine(folder)

    def draw(self, lacking: Sequence[ShardPictures], progress: ProgressBar) -> int:
        """Draw the pictures. Returns the number of images that were drawn.

        An input that killed the previous process is first read alone. One that kills this process
        again is excluded, as in a run with a model, and has no picture.
        """
        death = self.in_flight.start_run(self.folder.path.name)
        self.quarantine.record_death(death, self.in_flight)
        self.quarantine.try_suspects(self.plan, self._try_input)

        with progress:
            for pictures in lacking:
                self._draw_shard(pictures)
                self.in_flight.count_progress()
                progress.add(pictures.n_images, 0)
        return progress.images

    def _draw_shard(self, pictures: ShardPictures) -> None:
        shard = self.plan.read_shard(pictures.shard_id)
        images, predictions = (
            read_part(self.folder, kind, shard.shard_id) for kind in ("images", "predictions")
        )
        stage = self.folder.create_stage(shard.shard_id)
        schema = add_source_columns(self.parts.task.schema, self.parts.source.columns)
        read_image = make_image_reader(shard, self._read_image)
        context = SinkContext(stage, shard.shard_id, schema, self.parts.task.draw, read_image)

        for name, expected in pictures.expected.items():
            n_existing = pictures.existing[name]
            rows = images.slice(n_existing, expected - n_existing)
            with self.parts.sinks[name].open(context) as writer:
                writer.write(rows, predictions)
        self.folder.add_pictures(shard.shard_id, stage, pictures.expected)

    def _try_input(self, alone: Shard) -> None:
        with suppress(InputError, OSError):
            self._read_image(alone.first_image_id, alone.entries[0])

    def _read_image(self, image_id: int, entry: Entry) -> Tensor:
        if image_id in self.quarantine.excluded:
            excluded = self.quarantine.excluded[image_id]
            raise InputError(excluded.status, excluded.error)
        return read_original(self.parts.source, self.max_pixels, self.watchdog, image_id, entry)
