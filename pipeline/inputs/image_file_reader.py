"""Read the image files of a finished run again."""

from __future__ import annotations  # annotations must not import torch: readers of runs lack it

from collections.abc import Callable
from typing import TYPE_CHECKING, BinaryIO

from pipeline.core.types import Entry, InputError, Status

if TYPE_CHECKING:
    from torch import Tensor


class ImageFileReader:
    """Reads image files with a function that opens the file of an entry.

    Any number of threads may use it, in any order of the entries.
    """

    reads_in_order = False

    def __init__(self, open_image: Callable[[Entry], BinaryIO]) -> None:
        self._open_image = open_image

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
        return decode_image(data, max_pixels)

    def close(self) -> None:
        """Do nothing: no file stays open between reads."""
