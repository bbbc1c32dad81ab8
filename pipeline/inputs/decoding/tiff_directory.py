"""Read the directories of a TIFF file (TIFF 6.0, BigTIFF) without decoding it."""

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import BinaryIO, Literal

import numpy as np

from pipeline.inputs.decoding.pieces import Piece, join_pieces
from pipeline.inputs.decoding.separated import MAX_METADATA_BYTES, Separated

WIDTH, LENGTH, BITS, COMPRESSION, PHOTOMETRIC, FILL_ORDER = 256, 257, 258, 259, 262, 266
STRIP_OFFSETS, SAMPLES, ROWS_PER_STRIP, STRIP_BYTES, PLANAR = 273, 277, 278, 279, 284
PREDICTOR, COLOR_MAP = 317, 320
TILE_WIDTH, TILE_LENGTH, TILE_OFFSETS, TILE_BYTES = 322, 323, 324, 325
EXTRA_SAMPLES, SAMPLE_FORMAT, NO_DATA = 338, 339, 42113
SHORT, LONG = 3, 4  # types
_SUBFILE_TYPE, _ORIENTATION, _XMP = 254, 274, 700
_REDUCED, _MASK = 1, 4  # flags of the subfile type
# The tags that say how pixels are stored. The others are metadata: a decoder does not get them.
_PIXEL_TAGS = frozenset((
    WIDTH, LENGTH, BITS, COMPRESSION, PHOTOMETRIC, FILL_ORDER, STRIP_OFFSETS, SAMPLES,
    ROWS_PER_STRIP, STRIP_BYTES, PLANAR, 292, 293, PREDICTOR, COLOR_MAP, TILE_WIDTH, TILE_LENGTH,
    TILE_OFFSETS, TILE_BYTES, 332, 334, EXTRA_SAMPLES, SAMPLE_FORMAT, 347, *range(512, 522),
    *range(529, 533),
))  # fmt: skip
PAGE_TAGS = _PIXEL_TAGS | {_ORIENTATION, _XMP, NO_DATA}  # of a page as a file of its own
_TYPE_BYTES = {
    1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8,
    18: 8,
}  # fmt: skip
_TYPES = {  # number of a type of whole numbers or bytes -> numpy's type
    1: "u1", 2: "u1", 3: "u2", 4: "u4", 6: "i1", 7: "u1", 8: "i2", 9: "i4", 13: "u4", 16: "u8",
    17: "i8", 18: "u8",
}  # fmt: skip
_MAX_TAGS, _MAX_PAGES, _MAX_VALUE_BYTES = 4096, 100_000, 64 << 20


@dataclass(frozen=True)
class TiffDirectory:
    """One directory: the tags of one picture in the file."""

    file: BinaryIO
    order: Literal["little", "big"]
    is_big: bool  # BigTIFF
    tags: dict[int, bytes] = field(repr=False)  # tag -> its whole entry

    @property
    def is_page(self) -> bool:
        """Whether it is a picture of its own, not a smaller copy or a mask of another."""
        return not self.read_first(_SUBFILE_TYPE, 0) & (_REDUCED | _MASK)

    def read_first(self, tag: int, default: int) -> int:
        """Return the first value of a tag with whole numbers."""
        values = self.read(tag, 1)
        return int(values[0]) if len(values) else default

    def read(self, tag: int, most: int = 1 << 24) -> np.ndarray:
        """Return at most so many values of a tag with whole numbers; empty if it is absent."""
        entry = self.tags.get(tag, b"")
        dtype = _TYPES.get(int.from_bytes(entry[2:4], self.order))
        if dtype is None:
            return np.empty(0, np.int64)
        size, inline = np.dtype(dtype).itemsize, entry[12:] if self.is_big else entry[8:]
        total = int.from_bytes(entry[4:12] if self.is_big else entry[4:8], self.order)
        count = min(total, most)

        if total * size <= len(inline):
            data = inline[: count * size]
        else:
            self.file.seek(int.from_bytes(inline, self.order))
            data = self.file.read(count * size)
        order = "<" if self.order == "little" else ">"
        return np.frombuffer(data[: len(data) // size * size], order + dtype).astype(np.int64)

    def read_value(self, tag: int) -> bytes:
        """Return the value of a tag of any type as it is stored, without filling bytes."""
        entry = self.tags[tag]
        count, inline = (entry[4:12], entry[12:]) if self.is_big else (entry[4:8], entry[8:])
        size = _TYPE_BYTES.get(int.from_bytes(entry[2:4], self.order), 1)
        n_bytes = size * int.from_bytes(count, self.order)
        if n_bytes <= len(inline):
            return inline[:n_bytes]
        self.file.seek(int.from_bytes(inline, self.order))
        return self.file.read(min(n_bytes, _MAX_VALUE_BYTES))

    def read_bytes(self, tag: int) -> bytes:
        """Return the bytes of a tag with bytes or text."""
        return self.read(tag, MAX_METADATA_BYTES).astype(np.uint8).tobytes()


def iterate_directories(file: BinaryIO) -> Iterator[TiffDirectory]:
    """Yield the directories in the order of the file. Stops at damage or a loop."""
    file.seek(0)
    head = file.read(16)
    order: Literal["little", "big"] = "little" if head[:2] == b"II" else "big"
    is_big = int.from_bytes(head[2:4], order) == 43
    n_count, n_entry, n_offset = (8, 20, 8) if is_big else (2, 12, 4)
    offset = int.from_bytes(head[8:16] if is_big else head[4:8], order)

    seen: set[int] = set()
    while offset and offset not in seen and len(seen) < _MAX_PAGES:
        seen.add(offset)
        file.seek(offset)
        count = int.from_bytes(file.read(n_count), order)
        data = file.read(min(count, _MAX_TAGS) * n_entry)
        if not count or len(data) < count * n_entry:
            return
        entries = [data[at : at + n_entry] for at in range(0, len(data), n_entry)]
        next_offset = int.from_bytes(file.read(n_offset), order)
        yield TiffDirectory(
            file, order, is_big, {int.from_bytes(entry[:2], order): entry for entry in entries}
        )
        offset = next_offset


def count_pages(file: BinaryIO) -> int:
    """Return the number of pages: the first directory, and the others that are no copy or mask."""
    others = list(iterate_directories(file))[1:]
    return 1 + sum(directory.is_page for directory in others)


def find_page(file: BinaryIO, page: int) -> TiffDirectory | None:
    """Return the directory of a page, from 0; None if the file has no such page."""
    number = -1
    for directory in iterate_directories(file):
        number += number < 0 or directory.is_page
        if number == page:
            return directory
    return None


def separate_tiff(directory: TiffDirectory) -> Separated:
    """Return a file that has only one directory, without metadata; and the orientation.

    The orientation is that of the tag, else of XMP.
    """
    kept = _PIXEL_TAGS
    if directory.read_first(SAMPLES, 1) == 1:
        kept -= {PLANAR}  # it means nothing then, and Pillow would forget the photometric
    picture = _keep_tags(directory, kept)
    orientation = directory.read_first(_ORIENTATION, 0)
    if 1 <= orientation <= 8:
        return Separated(picture, orientation)
    return Separated.from_blocks(picture, [], [directory.read_bytes(_XMP)])


def _keep_tags(directory: TiffDirectory, kept: frozenset[int]) -> BinaryIO:
    """Return the file with these tags of one directory."""
    tags = {tag: entry for tag, entry in directory.tags.items() if tag in kept}
    if not directory.is_big:
        return _join(directory, list(tags.values()), b"")
    values = {}
    for tag, entry in tags.items():
        kind, data = int.from_bytes(entry[2:4], directory.order), directory.read_value(tag)
        if kind in (16, 17, 18):  # 64 bits
            kind, data = LONG, pack_longs(directory, directory.read(tag).tolist())
        values[tag] = kind, data
    return replace_directory(directory, values)


def pack_longs(directory: TiffDirectory, numbers: list[int]) -> bytes:
    """Return numbers as values of the type LONG. Raises OverflowError for those above 32 bits."""
    return b"".join(number.to_bytes(4, directory.order) for number in numbers)


def replace_directory(
    directory: TiffDirectory, values: Mapping[int, tuple[int, bytes]]
) -> BinaryIO:
    """Return the file with another directory only: tag -> (type, value).

    The file is then classic TIFF, because Pillow does not read every kind of BigTIFF.
    """
    order, entries, arrays = directory.order, [], b""
    size = directory.file.seek(0, io.SEEK_END)
    at = size + size % 2 + 2 + 12 * len(values) + 4  # behind the directory
    for tag, (kind, data) in sorted(values.items()):
        inline = data.ljust(4, b"\0")
        if len(data) > 4:
            inline = (at + len(arrays)).to_bytes(4, order)
            arrays += data + bytes(len(data) % 2)
        count = len(data) // _TYPE_BYTES.get(kind, 1)
        head = tag.to_bytes(2, order) + kind.to_bytes(2, order) + count.to_bytes(4, order)
        entries.append(head + inline)
    return _join(directory, entries, arrays)


def _join(directory: TiffDirectory, entries: list[bytes], arrays: bytes) -> BinaryIO:
    """Return the file as classic TIFF with this directory at its end, followed by the arrays."""
    order, file = directory.order, directory.file
    size = file.seek(0, io.SEEK_END)
    header = b"II*\0" if order == "little" else b"MM\0*"
    header += (size + size % 2).to_bytes(4, order)
    ifd = len(entries).to_bytes(2, order) + b"".join(entries) + bytes(4)
    pieces: list[Piece] = [header, (8, size - 8), bytes(size % 2), ifd, arrays]
    return join_pieces(file, pieces)
