"""The inputs of a finished run, read again: for pictures and measurements of what a run has found."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from pipeline.core.errors import ConfigError
from pipeline.core.keys import resolve_below
from pipeline.core.types import Entry, InputError, Status
from pipeline.inputs.manifests.locations import ManifestPaths
from pipeline.inputs.parquet_images import ParquetImages
from pipeline.runs.finished_run import FinishedRun
from pipeline.storage.listing import open_listing

if TYPE_CHECKING:
    from pipeline.inputs.decoding.video import FrameReader, VideoIndex


class InputReader:
    """Reads images as files, wherever they are, and frames of videos by their number; a run over clips has no images.

    with closing(Inputs(run)) as inputs:
        pixels = inputs.read(entry, size_hw)
    """

    def __init__(self, run: FinishedRun) -> None:
        """Raises ConfigError where the run's input is not there any more, or has no images."""
        if run.source not in ("folder", "video", "tar", "zip", "manifest", "hf_parquet"):
            raise ConfigError(
                f"{run.path} was run over source={run.source}, which has no images that could be read again."
            )
        self.paths: ManifestPaths | None = None  # of a manifest
        self.in_order = (
            run.source == "video"
        )  # best read one after the other, in the run's order, and by one thread
        determined_by = run.record["fingerprint_of"]
        try:
            self.listing = open_listing(str(run.input), (), "images")
            self.open = self._opener(run, determined_by.get("source_settings", {}))
        except ConfigError:
            raise ConfigError(
                f"{run.input}, the input of {run.path}, is not there any more."
            ) from None
        self.max_pixels: int = determined_by["max_pixels"]
        self._video: tuple[str, VideoIndex, FrameReader] | None = None  # the last one, open

    def read(self, entry: Entry, size_hw: tuple[int, int]) -> np.ndarray:
        """(H, W, 3) uint8 RGB, upright; `size_hw` is what the run's row says it has. Raises InputError, also where the file
        is not the one that the plan lists, or was accepted as another (changed=accept) and the row tells of the old one."""
        if resolve_below(Path(), entry.key) is None:
            raise InputError(Status.UNREADABLE, "its name leads out of the input; no run made it")
        pixels = self._frame(entry) if self.in_order else self._image(entry)
        if pixels.shape[:2] != size_hw:
            (height, width), now = size_hw, f"{pixels.shape[1]}x{pixels.shape[0]}"
            raise InputError(
                Status.CHANGED, f"the run has it as {width}x{height} pixels, the file has {now} now"
            )
        return pixels

    def link(self, key: str) -> str | None:
        """An address for browsers; None where an input is no file of its own."""
        return self.paths.link(key) if self.paths else None

    def _opener(self, run: FinishedRun, settings: Mapping[str, Any]) -> Callable[[Entry], BinaryIO]:
        """What opens an input, as its source does. Raises InputError, and this itself ConfigError."""
        source = run.source
        if source == "manifest":
            self.paths = paths = ManifestPaths(self.listing.root)
            return lambda entry: paths.open(entry.key)
        if source in ("tar", "zip"):
            from pipeline.inputs.archives.archives import Archives  # these know decoders, so torch
            from pipeline.inputs.archives.tar_reader import TAR
            from pipeline.inputs.archives.zip_reader import ZIP

            return Archives(str(run.input), TAR if source == "tar" else ZIP).open
        if source == "hf_parquet":
            return ParquetImages(self.listing.open, settings["column"]).open
        return lambda entry: self.listing.open(entry.key)

    def _image(self, entry: Entry) -> np.ndarray:
        from pipeline.inputs.decoding.image import decode_image

        with self.open(entry) as file:
            data = file.read(-1 if entry.size is None else entry.size + 1)
        if entry.size not in (None, len(data)):
            raise InputError(
                Status.CHANGED, f"the plan lists {entry.size} bytes, the file has others"
            )
        return decode_image(data, self.max_pixels).permute(1, 2, 0).numpy()

    def _frame(self, entry: Entry) -> np.ndarray:
        from pipeline.inputs.decoding.video import FrameReader, read_video_index

        video, _, number = entry.key.rpartition("/")
        if not number.isdecimal():
            raise InputError(Status.UNREADABLE, "its name has no number of a frame; no run made it")
        if self._video is None or self._video[0] != video:
            self.close()
            file = self.listing.open(video)
            if file.seek(0, 2) != entry.size:
                file.close()
                raise InputError(
                    Status.CHANGED, f"the plan lists {entry.size} bytes, the video has others"
                )
            index = read_video_index(file)
            self._video = video, index, FrameReader(file, index)
        _, index, frames = self._video
        if int(number) >= len(index):
            raise InputError(Status.CHANGED, "this frame of the video is not there any more")
        return frames.frame(int(number)).permute(1, 2, 0).numpy()

    def close(self) -> None:
        if self._video:
            self._video[2].close()
            self._video = None


def iterate_entries(
    run: FinishedRun, image_ids: Iterable[int]
) -> Iterator[tuple[int, Entry, tuple[int, int]]]:
    """(image_id, the input as planned, its size_hw in the run), of these usable images in ascending order; one shard is
    read at a time."""
    wanted = sorted(set(image_ids))
    first = at = 0
    for shard_id, size in run.plan.shard_sizes():
        here = []
        while at < len(wanted) and wanted[at] < first + size:
            here.append(wanted[at])
            at += 1
        if here:
            shard, images = (
                run.plan.read_shard(shard_id),
                run.read_table("images", shard_id, ["height", "width"]),
            )
            heights, widths = (column.to_pylist() for column in images.columns)
            for i in (image_id - first for image_id in here):
                yield first + i, shard.entries[i], (heights[i], widths[i])
        first += size
