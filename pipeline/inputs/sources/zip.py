"""Every image in the zip archives under a folder."""

from collections.abc import Iterator
from typing import BinaryIO

from pipeline.core.types import Entry
from pipeline.inputs.archives.archives import ARCHIVE_COLUMNS, Archives
from pipeline.inputs.archives.zip_reader import ZIP
from pipeline.inputs.image_source import ImageSource


class Zip(ImageSource):
    """Lists the members that are images by their suffix, archive by archive, sorted by key (see `Archives`). `root` may be
    one archive."""

    columns = ARCHIVE_COLUMNS

    def __init__(self, root: str) -> None:
        self.archives = Archives(root, ZIP)
        self.identity = f"zip:{self.archives.listing.identity}"

    def entries(self) -> Iterator[Entry]:
        return self.archives.entries()

    def open(self, entry: Entry) -> BinaryIO:
        return self.archives.open(entry)
