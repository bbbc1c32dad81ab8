"""Base class of the sources that read images from archives of one format."""

from collections.abc import Iterator
from typing import BinaryIO, ClassVar

from pipeline.core.protocols import ImageDecoder
from pipeline.core.recorded_inputs import ImageReader, InputLocations, RecordedSource
from pipeline.core.types import Entry
from pipeline.inputs.archives.archive_format import ArchiveFormat
from pipeline.inputs.archives.members import ARCHIVE_COLUMNS, ArchiveMembers
from pipeline.inputs.image_file_reader import ImageFileReader
from pipeline.inputs.image_source import ImageSource


class ArchiveSource(ImageSource):
    """Lists the members that have the suffix of an image, archive by archive, sorted by key.

    `root` is a folder of archives or one archive. A subclass sets the archive format. The name of
    the format is also the name of the component.
    """

    archive_format: ClassVar[ArchiveFormat]
    columns = ARCHIVE_COLUMNS

    def __init__(self, root: str, image_decoder: ImageDecoder | None = None) -> None:
        super().__init__(image_decoder)
        self.members = ArchiveMembers(root, self.archive_format)
        self.passed_over = self.members.passed_over
        self.identity = f"{self.archive_format.name}:{self.members.listing.identity}"

    def entries(self) -> Iterator[Entry]:
        return self.members.entries()

    def open(self, entry: Entry) -> BinaryIO:
        return self.members.open(entry)

    @classmethod
    def locate(cls, recorded: RecordedSource) -> InputLocations:
        return InputLocations(recorded.folder, file_column="archive")

    @classmethod
    def reopen(cls, recorded: RecordedSource) -> ImageReader:
        members = ArchiveMembers(str(recorded.folder), cls.archive_format)
        return ImageFileReader(members.open, recorded.pixel_settings)
