"""Source `zip`: all images in the zip archives below a folder."""

from pipeline.inputs.archives.archive_source import ArchiveSource
from pipeline.inputs.archives.zip_format import ZIP


class Zip(ArchiveSource):
    """Lists images in zip archives (see `ArchiveSource`)."""

    archive_format = ZIP
