"""The picture of an image file, and its metadata."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

from pipeline.inputs.decoding.orientation import choose_orientation

MAX_METADATA_BYTES = 1 << 20  # of one block; the orientation is near its beginning
MAX_METADATA_BLOCKS = 64


@dataclass(frozen=True)
class Separated:
    """A file without metadata, so that no metadata can cost the picture; and its orientation."""

    picture: BinaryIO  # what a decoder gets
    orientation: int = 1  # EXIF, 1..8

    @classmethod
    def from_blocks(
        cls, picture: BinaryIO, exif: Sequence[bytes], xmp: Sequence[bytes]
    ) -> "Separated":
        """Make one whose orientation is the first in the EXIF blocks, then in the XMP packets."""
        return cls(picture, choose_orientation(exif, xmp))
