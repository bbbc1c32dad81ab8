"""Source `tar`: all images in the tar archives below a folder."""

from pipeline.inputs.archives.archive_source import ArchiveSource
from pipeline.inputs.archives.tar_format import TAR


class Tar(ArchiveSource):
    """Lists images in tar archives (see `ArchiveSource`)."""

    archive_format = TAR
