"""Source `folder`: all image files below a folder."""

from collections.abc import Iterator
from typing import BinaryIO

from pipeline.config.validators import check_choice
from pipeline.core.protocols import ImageDecoder
from pipeline.core.recorded_inputs import ImageReader, InputLocations, RecordedSource
from pipeline.core.types import Entry
from pipeline.inputs.decoding.formats import IMAGE_SUFFIXES
from pipeline.inputs.image_file_reader import ImageFileReader
from pipeline.inputs.image_source import ImageSource
from pipeline.inputs.tiff_page_entries import PAGE_COLUMNS, expand_pages, open_page_entry
from pipeline.storage.listing import make_prefetcher, open_listing


class Folder(ImageSource):
    """Lists files with the suffix of an image, also in sub-folders, sorted by key.

    `root` is a folder or one image, as a path or an address. See `LocalListing` for the details.
    `pages=all`: each page of a TIFF file is an input. Listing opens these files then, and they are
    not fetched ahead.
    """

    hint_if_empty = (
        "For videos say source=video, or task=video; for archives source=tar or zip; "
        "for a list of images source=manifest."
    )

    def __init__(
        self, root: str, pages: str = "first", image_decoder: ImageDecoder | None = None
    ) -> None:
        self.has_pages = check_choice("first", "all")("source.pages", pages) == "all"
        self.listing = open_listing(root, IMAGE_SUFFIXES, "images")
        self.identity = f"folder:{self.listing.identity}"
        self.columns = PAGE_COLUMNS if self.has_pages else ()
        super().__init__(image_decoder, None if self.has_pages else make_prefetcher(self.listing))
        self.passed_over = self.listing.passed_over

    def entries(self) -> Iterator[Entry]:
        files = self.listing.entries()
        return expand_pages(files, self.listing.open) if self.has_pages else files

    def open(self, entry: Entry) -> BinaryIO:
        return open_page_entry(entry, self.listing.open)

    @classmethod
    def locate(cls, recorded: RecordedSource) -> InputLocations:
        if recorded.settings.get("pages") == "all":
            return InputLocations(recorded.folder, file_column=PAGE_COLUMNS[0].name)
        return InputLocations(recorded.folder, keys_are_files=True)

    @classmethod
    def reopen(cls, recorded: RecordedSource) -> ImageReader:
        listing = open_listing(str(recorded.folder), (), "images")
        return ImageFileReader(
            lambda entry: open_page_entry(entry, listing.open), recorded.pixel_settings
        )
