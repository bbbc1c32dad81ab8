"""Every image in the tar archives under a folder."""

from collections.abc import Iterator
from typing import BinaryIO

from pipeline.core.types import Entry
from pipeline.inputs.archives.archives import ARCHIVE_COLUMNS, Archives
from pipeline.inputs.archives.tar_reader import TAR
from pipeline.inputs.image_source import ImageSource


class Tar(ImageSource):
    """Lists the members that are images by their suffix, archive by archive, sorted by key (see `Archives`). `root` may be
    one archive."""

    columns = ARCHIVE_COLUMNS

    def __init__(self, root: str) -> None:
        self.archives = Archives(root, TAR)
        self.identity = f"tar:{self.archives.listing.identity}"

    def entries(self) -> Iterator[Entry]:
        return self.archives.entries()

    def open(self, entry: Entry) -> BinaryIO:
        return self.archives.open(entry)
