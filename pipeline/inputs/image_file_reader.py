"""Read the image files of a finished run again."""

from __future__ import annotations  # annotations must not import torch: readers of runs lack it

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, BinaryIO

from pipeline.core.types import Entry, InputError, Status
from pipeline.inputs.decoding.pixel_options import PixelOptions

if TYPE_CHECKING:
    from torch import Tensor


class ImageFileReader:
    """Reads image files with a function that opens the file of an entry.

    Any number of threads may use it, in any order of the entries.
    """

    reads_in_order = False

    def __init__(
        self,
        open_image: Callable[[Entry], BinaryIO],
        pixel_settings: Mapping[str, Any] | None = None,
    ) -> None:
        """Make a reader.

        Args:
            open_image: Opens the file of an entry.
            pixel_settings: The run's settings `levels` and `bands`, if not the defaults.
        """
        self._open_image = open_image
        self._options = PixelOptions.from_settings(pixel_settings or {})

    def open(self, entry: Entry) -> BinaryIO:
        """Open the encoded image as a file. Raises InputError and OSError."""
        return self._open_image(entry)

    def read(self, entry: Entry, max_pixels: int) -> Tensor:
        """Decode the image to (3, H, W) uint8 RGB, upright. Raises InputError and OSError."""
        from pipeline.inputs.decoding.image import decode_image  # late: it imports torch

        with self.open(entry) as file:
            data = file.read(-1 if entry.size is None else entry.size + 1)
        if entry.size not in (None, len(data)):
            raise InputError(
                Status.CHANGED, f"the plan lists {entry.size} bytes, the file has others"
            )
        return decode_image(data, max_pixels, self._options)

    def close(self) -> None:
        """Do nothing: no file stays open between reads."""
