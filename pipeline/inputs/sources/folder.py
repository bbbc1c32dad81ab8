"""Source `folder`: all image files below a folder."""

from collections.abc import Iterator
from typing import BinaryIO

from pipeline.core.protocols import ImageDecoder
from pipeline.core.recorded_inputs import ImageReader, InputLocations, RecordedSource
from pipeline.core.types import Entry
from pipeline.inputs.decoding.formats import IMAGE_SUFFIXES
from pipeline.inputs.image_file_reader import ImageFileReader
from pipeline.inputs.image_source import ImageSource
from pipeline.storage.listing import make_prefetcher, open_listing


class Folder(ImageSource):
    """Lists files with the suffix of an image, also in sub-folders, sorted by key.

    `root` is a folder or one image, as a path or an address. See `LocalListing` for the details.
    """

    hint_if_empty = (
        "For videos say source=video, or task=video; for archives source=tar or zip; "
        "for a list of images source=manifest."
    )

    def __init__(self, root: str, image_decoder: ImageDecoder | None = None) -> None:
        self.listing = open_listing(root, IMAGE_SUFFIXES, "images")
        self.identity = f"folder:{self.listing.identity}"
        super().__init__(image_decoder, make_prefetcher(self.listing))
        self.passed_over = self.listing.passed_over

    def entries(self) -> Iterator[Entry]:
        return self.listing.entries()

    def open(self, entry: Entry) -> BinaryIO:
        return self.listing.open(entry.key)

    @classmethod
    def locate(cls, recorded: RecordedSource) -> InputLocations:
        return InputLocations(recorded.folder, keys_are_files=True)

    @classmethod
    def reopen(cls, recorded: RecordedSource) -> ImageReader:
        listing = open_listing(str(recorded.folder), (), "images")
        return ImageFileReader(lambda entry: listing.open(entry.key))
