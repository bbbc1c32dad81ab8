"""Every image in the tar archives under a folder."""

from pipeline.inputs.archives.archive_source import ArchiveSource
from pipeline.inputs.archives.tar_format import TAR


class Tar(ArchiveSource):
    """Images in tar archives (see `ArchiveSource`)."""

    archive_format = TAR
