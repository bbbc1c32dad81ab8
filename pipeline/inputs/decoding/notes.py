"""Collect what is to be said about the files of a run, and log it once."""

import logging
from threading import Lock
from typing import TYPE_CHECKING

from pipeline.inputs.decoding.header import OpenedImage
from pipeline.inputs.decoding.pixel_options import PixelOptions
from pipeline.inputs.decoding.tiff_directory import count_pages

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger(__name__)
_NEARLY_BLACK = 16  # of 255: 12 bits in 16 have at most 15


class DecodingNotes:
    """Counts files that come out nearly black, and files of several pages, each file once.

    Several threads may use it at once.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._dark: set[int] = set()
        self._of_pages: set[int] = set()

    def take(
        self,
        data: bytes,
        opened: OpenedImage,
        pixels: "Tensor",
        options: PixelOptions,
    ) -> None:
        """Note what a decoded file shows."""
        is_deep = opened.header.bits > 8
        if is_deep and options.levels == "full" and 0 < int(pixels.max()) <= _NEARLY_BLACK:
            self._add(self._dark, data)
        directory = opened.directory
        if directory is not None and count_pages(directory.file) > 1:
            self._add(self._of_pages, data)

    def log(self) -> None:
        """Log the counts, and forget them."""
        with self._lock:
            n_dark, n_of_pages = len(self._dark), len(self._of_pages)
            self._dark.clear()
            self._of_pages.clear()
        if n_dark:
            log.warning(
                "%s of more than 8 bits came out nearly black: levels=auto spreads the values of "
                "each, levels=[0,4095] shows 12 bits.",
                _count(n_dark),
            )
        if n_of_pages:
            log.warning(
                "%s of several pages: the first page was read. With source=folder, "
                "source.pages=all reads all.",
                _count(n_of_pages),
            )

    def _add(self, found: set[int], data: bytes) -> None:
        """Add a file, which may be decoded again to draw it."""
        number = hash(data)
        with self._lock:
            found.add(number)


def _count(n: int) -> str:
    return "1 file" if n == 1 else f"{n:,} files"
