"""Put the images of a finished run into an export."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pyarrow as pa

from pipeline.core.errors import ConfigError
from pipeline.core.keys import resolve_below
from pipeline.core.types import Entry, InputError
from pipeline.results.input_reader import InputReader
from pipeline.runs.finished_run import FinishedRun

_QUALITY = 95  # of images that are stored again, in formats that lose detail


class ImagePlacer:
    """Function that puts images into an export: `ExportContext.place_image`.

    An image that is not a separate file, such as a row of a Parquet file, can only be copied.

    Attributes:
        root: Folder that the keys of the images are relative to.
        n_elsewhere: Number of images that are not files below the input and were not copied.
        n_turned: Number of images in the export that programs without knowledge of orientation
            show turned.
    """

    def __init__(self, run: FinishedRun, image_folder: str, images: str, stage: Path) -> None:
        self.run, self.image_folder, self.images, self.stage = run, image_folder, images, stage
        self.locations = run.locations
        self.root = (
            run.input if isinstance(run.input, Path) else Path(run.input.text.partition("://")[2])
        )
        files = self.locations.keys_are_files and isinstance(run.input, Path)
        needs_reader = images == "upright" or (images != "none" and not files)
        self.inputs = InputReader(run) if needs_reader else None
        self.copies_files = files
        self.max_pixels = run.max_pixels
        self.entries: dict[str, tuple[Entry, tuple[int, int]]] = {}  # with height and width
        self.n_elsewhere = self.n_turned = 0

    def load_shard(self, shard_id: int, images: pa.Table) -> None:
        """Load the plan's entries of a shard, whose images are placed next."""
        if self.inputs:
            entries = self.run.plan.read_shard(shard_id).entries
            heights, widths = (images[name].to_pylist() for name in ("height", "width"))
            self.entries = {
                entry.key: (entry, (height, width))
                for entry, height, width in zip(entries, heights, widths, strict=True)
            }

    def close(self) -> None:
        if self.inputs:
            self.inputs.close()

    def __call__(self, key: str, name: str) -> Path:
        """Place the image `key` under `name` and return its path for the export.

        Raises:
            ConfigError: the image cannot be linked or copied there.
        """
        source, placed = resolve_below(self.root, key), resolve_below(Path(self.image_folder), name)
        if source is None or placed is None:
            reason = f"the image {key!r} leads out of its folder. This run was not made by a run."
            raise ConfigError(f"run={self.run.path}: {reason}")
        if self.images == "none":
            self.n_elsewhere += not self.locations.is_below_root(key)
            return self.locations.find_file(key) or source

        target = self.stage / placed
        if os.path.lexists(target):
            reason = f"two images would be {placed}, one of them {key!r}. Say images=none."
            raise ConfigError(f"images={self.images}: {reason}")
        target.parent.mkdir(parents=True, exist_ok=True)
        if self.copies_files:
            self._put_file(source, target)
        else:
            self._put_input(key, target)
        self._turn(key, target)
        return placed

    def _put_file(self, source: Path, target: Path) -> None:
        if not source.is_file():
            reason = f"{source} is not there any more, or no file of its own (a frame of a video)."
            raise ConfigError(f"images={self.images}: {reason}")
        put: Callable[[Path, Path], object] = (
            os.symlink if self.images == "link" else shutil.copyfile
        )
        put(source, target)

    def _put_input(self, key: str, target: Path) -> None:
        if self.images == "link":
            file = self.locations.find_file(key)
            if file is None:
                raise ConfigError(
                    f"images=link: {key} is no file of its own to link to. Say images=copy."
                )
            return self._put_file(file, target)
        reader = cast(InputReader, self.inputs)
        try:
            with reader.open(self._find_entry(key)[0]) as source, target.open("wb") as copy:
                shutil.copyfileobj(source, copy)
        except InputError as error:
            raise ConfigError(f"images={self.images}: {key}: {error}.") from None

    def _find_entry(self, key: str) -> tuple[Entry, tuple[int, int]]:
        if key not in self.entries:
            reason = (
                f"the image {key!r} is not where its plan has it. This run was not made by a run."
            )
            raise ConfigError(f"run={self.run.path}: {reason}")
        return self.entries[key]

    def _turn(self, key: str, placed: Path) -> None:
        """Store a turned image upright if the user asked for it, else count it."""
        from pipeline.inputs.decoding.header import read_image_header

        with placed.open("rb") as file:
            try:
                header = read_image_header(file, self.max_pixels)
            except InputError:  # the file is another one than the run saw
                return
        if header.orientation == 1:
            return
        if self.images != "upright":
            self.n_turned += 1
            return
        self._store_upright(key, placed, header.format)

    def _store_upright(self, key: str, placed: Path, image_format: str) -> None:
        from PIL import Image

        reader = cast(InputReader, self.inputs)
        entry, size_hw = self._find_entry(key)
        try:
            pixels = reader.read(entry, size_hw)
        except InputError as error:
            raise ConfigError(f"images=upright: {key}: {error}.") from None
        saved_as = "JPEG" if image_format == "MPO" else image_format
        if saved_as not in Image.SAVE:
            raise ConfigError(
                f"images=upright: {key} is a turned image of the format {image_format}, which "
                "cannot be written. Say images=copy."
            )
        Image.fromarray(pixels).save(placed, saved_as, quality=_QUALITY)
