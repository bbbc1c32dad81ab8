"""Every image file under a folder."""

from collections.abc import Iterator
from typing import BinaryIO

from pipeline.core.types import Entry
from pipeline.inputs.decoding.image import IMAGE_SUFFIXES
from pipeline.inputs.image_source import ImageSource
from pipeline.storage.listing import make_prefetcher, open_listing


class Folder(ImageSource):
    """Lists image files by their suffix, sub-folders included, sorted by key (see `Listing`). `root` may be one image, and
    an address as well as a path."""

    def __init__(self, root: str) -> None:
        self.listing = open_listing(root, IMAGE_SUFFIXES, "images")
        self.prefetcher = make_prefetcher(self.listing)
        self.identity = f"folder:{self.listing.identity}"

    def entries(self) -> Iterator[Entry]:
        return self.listing.entries()

    def open(self, entry: Entry) -> BinaryIO:
        return self.listing.open(entry.key)
