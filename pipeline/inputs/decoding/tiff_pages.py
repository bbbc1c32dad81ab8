"""Present one page of a TIFF file as a file of its own, without reading its pixels."""

from typing import BinaryIO

from pipeline.core.types import InputError, Status
from pipeline.inputs.decoding import tiff_directory as tiff
from pipeline.inputs.decoding.pieces import Piece, join_pieces
from pipeline.inputs.decoding.tiff_directory import TiffDirectory, find_page

# Tags of old JPEG compression with positions in the file, which cannot be moved.
_FIXED_TAGS = frozenset(range(512, 522))
_POSITIONS = (tiff.STRIP_OFFSETS, tiff.TILE_OFFSETS)
_LENGTHS = {tiff.STRIP_OFFSETS: tiff.STRIP_BYTES, tiff.TILE_OFFSETS: tiff.TILE_BYTES}


def open_page(file: BinaryIO, page: int) -> BinaryIO:
    """Return a page, from 0, as a file. Closing it closes `file`.

    Raises:
        InputError: The file has no such page any more, or its compression does not allow it.
    """
    directory = find_page(file, page)
    if directory is None:
        raise InputError(Status.CHANGED, f"the file has no page {page + 1} any more")
    if _FIXED_TAGS & directory.tags.keys():
        raise InputError(Status.UNSUPPORTED, "TIFF: pages of old JPEG compression are not read")
    kept = {tag: entry for tag, entry in directory.tags.items() if tag in tiff.PAGE_TAGS}
    return join_pieces(file, _make_pieces(directory, kept), closes_file=True)


def _make_pieces(directory: TiffDirectory, kept: dict[int, bytes]) -> list[Piece]:
    """Return header, directory, long values and strips or tiles, in this order."""
    order, big = directory.order, directory.is_big
    n_count, n_entry, n_offset, n_header = (8, 20, 8, 16) if big else (2, 12, 4, 8)
    directory.file.seek(0)
    header = directory.file.read(n_header)[: n_header - n_offset]
    header += n_header.to_bytes(n_offset, order)

    values: dict[int, bytes] = {}
    strips: list[tuple[int, int]] = []
    for tag in kept:
        if tag in _POSITIONS:
            offsets, lengths = directory.read(tag), directory.read(_LENGTHS[tag])
            strips = list(zip(offsets.tolist(), lengths.tolist(), strict=False))
            values[tag] = bytes(n_offset * len(strips))  # filled in below
        else:
            values[tag] = directory.read_value(tag)

    long_bytes = sum(len(data) for data in values.values() if len(data) > n_offset)
    data_start = n_header + n_count + n_entry * len(kept) + n_offset + long_bytes
    for tag in kept:
        if tag in _POSITIONS:
            starts = _find_starts(data_start, [length for _, length in strips])
            values[tag] = b"".join(start.to_bytes(n_offset, order) for start in starts)

    entries, long_values = b"", b""
    at = n_header + n_count + n_entry * len(kept) + n_offset
    for tag, entry in sorted(kept.items()):
        head, data = entry[: 4 + n_offset], values[tag]
        if tag in _POSITIONS:
            code = 16 if big else 4
            head = entry[:2] + code.to_bytes(2, order) + len(strips).to_bytes(n_offset, order)
        if len(data) > n_offset:
            entries += head + (at + len(long_values)).to_bytes(n_offset, order)
            long_values += data
        else:
            entries += head + data.ljust(n_offset, b"\0")
    ifd = len(kept).to_bytes(n_count, order) + entries + bytes(n_offset)
    return [header, ifd, long_values, *strips]


def _find_starts(first: int, lengths: list[int]) -> list[int]:
    """Return where each of several consecutive parts begins."""
    starts = [first]
    for length in lengths:
        starts.append(starts[-1] + length)
    return starts[:-1]
