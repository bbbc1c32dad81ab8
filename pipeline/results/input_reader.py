"""Read the inputs of a finished run again, to draw or measure its predictions."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from pipeline.core.errors import ConfigError
from pipeline.core.keys import resolve_below
from pipeline.core.types import Entry, InputError, Status
from pipeline.runs.finished_run import FinishedRun


class InputReader:
    """Reader of the images of a finished run, through the source that the run used.

    with closing(InputReader(run)) as inputs:
        pixels = inputs.read(entry, size_hw)
    """

    def __init__(self, run: FinishedRun) -> None:
        """Open the source that the run's record (run.json) names.

        Raises:
            ConfigError: the input no longer exists, or it is not a collection of images.
        """
        no_images = ConfigError(
            f"{run.path} was run over source={run.source}, which has no images that could be read "
            "again."
        )
        try:
            source_class = run.find_source_class()
        except ConfigError:
            raise no_images from None
        try:
            reader = source_class.reopen(run.recorded_source)
        except ConfigError:
            raise ConfigError(
                f"{run.input}, the input of {run.path}, is not there any more."
            ) from None
        if reader is None:
            raise no_images

        self.locations = run.locations
        self.max_pixels = run.max_pixels
        self._reader = reader

    @property
    def in_order(self) -> bool:
        """Whether one thread that reads in the order of the run is faster than several threads."""
        return self._reader.reads_in_order

    def open(self, entry: Entry) -> BinaryIO:
        """Open the encoded image as a binary file.

        Raises:
            InputError: the source cannot use the image.
            OSError: the image cannot be read.
        """
        return self._reader.open(entry)

    def read(self, entry: Entry, size_hw: tuple[int, int]) -> np.ndarray:
        """Decode an image to (H, W, 3) uint8 RGB, upright.

        Args:
            size_hw: height and width in pixels, as the run recorded them.

        Raises:
            InputError: the image cannot be decoded, the file is not the one that the plan lists,
                or its size differs from `size_hw`.
        """
        if resolve_below(Path(), entry.key) is None:
            raise InputError(Status.UNREADABLE, "its name leads out of the input; no run made it")

        pixels = self._reader.read(entry, self.max_pixels).permute(1, 2, 0).numpy()
        if pixels.shape[:2] != size_hw:
            (height, width), found = size_hw, f"{pixels.shape[1]}x{pixels.shape[0]}"
            raise InputError(
                Status.CHANGED,
                f"the run has it as {width}x{height} pixels, the file has {found} now",
            )
        return pixels

    def link(self, key: str) -> str | None:
        """Return the address at which a browser opens the input; None if it cannot open it."""
        return self.locations.make_link(key)

    def close(self) -> None:
        self._reader.close()


def iterate_entries(
    run: FinishedRun, image_ids: Iterable[int]
) -> Iterator[tuple[int, Entry, tuple[int, int]]]:
    """Yield (image_id, entry of the plan, size_hw in pixels) for each of these images.

    The images must be usable. They are yielded by ascending id. One shard is read at a time.
    """
    wanted = sorted(set(image_ids))
    first = at = 0
    for shard_id, size in run.plan.shard_sizes():
        begin = at
        while at < len(wanted) and wanted[at] < first + size:
            at += 1
        in_shard = wanted[begin:at]
        if in_shard:
            entries = run.plan.read_shard(shard_id).entries
            images = run.read_table("images", shard_id, ["height", "width"])
            heights, widths = (column.to_pylist() for column in images.columns)
            for image_id in in_shard:
                i = image_id - first
                yield image_id, entries[i], (heights[i], widths[i])
        first += size
