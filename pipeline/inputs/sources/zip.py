"""Every image in the zip archives under a folder."""

from pipeline.inputs.archives.archive_source import ArchiveSource
from pipeline.inputs.archives.zip_format import ZIP


class Zip(ArchiveSource):
    """Images in zip archives (see `ArchiveSource`)."""

    archive_format = ZIP
