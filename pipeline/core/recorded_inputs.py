"""The class methods of a source for reading the inputs of a finished run again, and their values.

The run's record names the source. A command finds the source's class by this name, and calls
`locate` and `reopen` with plain values of the record. No class that a run folder names is ever
instantiated.
"""

from __future__ import annotations  # readers of finished runs do without torch

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from pipeline.core.keys import resolve_below
from pipeline.core.locations import Location
from pipeline.core.types import Entry

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class RecordedSource:
    """The source of a finished run, as its record describes it."""

    input: Location  # the folder, file or address that was annotated; it may be gone
    settings: Mapping[str, Any]  # the source's own settings, such as the name of a column
    only_key: str | None = None  # the key of the run's image, if the run has exactly one
    # the settings `levels` and `bands`, where they are not the defaults
    pixel_settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def folder(self) -> Location:
        """Return the input, or the folder of an input that is a single file."""
        if isinstance(self.input, Path):
            return self.input.parent if self.input.is_file() else self.input
        return self.input.parent if self.only_key == self.input.name else self.input


@dataclass(frozen=True)
class InputLocations:
    """Locations of the inputs of a finished run. No method opens a file or asks whether it exists.

    `keys_are_files`: a key is the path of a file below `root`, or begins with one.
    `file_column`: a column of the run's tables with the path below `root` of the file that holds
    the input. `time_column`: a column with the seconds at which the input begins in that file.
    """

    root: Location
    keys_are_files: bool = False
    file_column: str | None = None
    time_column: str | None = None

    @property
    def have_derived_links(self) -> bool:
        """Whether an input's address is `root` and its key, or `root` and the value of
        `file_column`.
        """
        return self.keys_are_files or self.file_column is not None

    def is_below_root(self, key: str) -> bool:
        """Return whether the key is the path of a file below `root`, or begins with one."""
        return self.keys_are_files

    def find_file(self, key: str) -> Path | None:
        """Return the local file that is this input.

        None if the input is not a separate local file.
        """
        if self.keys_are_files and isinstance(self.root, Path):
            return resolve_below(self.root, key)
        return None

    def make_link(self, key: str) -> str | None:
        """Return a browser address of an input whose link is not derived from its key."""
        return None


class ImageReader(Protocol):
    """Reads images of a finished run again, each by its entry in the run's plan."""

    reads_in_order: bool  # faster if one thread reads the images in the order of the run

    def open(self, entry: Entry) -> BinaryIO:
        """Open the encoded image as a file. Raises InputError and OSError."""
        ...

    def read(self, entry: Entry, max_pixels: int) -> Tensor:
        """Decode the image: (3, H, W) uint8 RGB, upright. Raises InputError and OSError."""
        ...

    def close(self) -> None:
        """Close all files."""
        ...


class SourceClass(Protocol):
    """The class methods of a source component."""

    def locate(self, recorded: RecordedSource) -> InputLocations:
        """Return where the inputs of a finished run are, without accessing the file system."""
        ...

    def reopen(self, recorded: RecordedSource) -> ImageReader | None:
        """Return a reader of the run's images; None if its inputs are not images.

        Raises:
            ConfigError: The input no longer exists.
        """
        ...
