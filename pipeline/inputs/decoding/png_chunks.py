"""Separate the picture of a PNG file from its metadata (ISO/IEC 15948, 5.3)."""

import re
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from pipeline.inputs.decoding.pieces import Piece, join_pieces
from pipeline.inputs.decoding.separated import MAX_METADATA_BLOCKS, MAX_METADATA_BYTES, Separated

_SIGNATURE_BYTES = 8
_TEXT_CHUNKS = (b"tEXt", b"zTXt", b"iTXt")
_XMP_KEYWORD = b"XML:com.adobe.xmp"
# ImageMagick and older tools write whole profiles as hexadecimal text under these keywords.
_RAW_EXIF_KEYWORDS = (b"Raw profile type exif", b"Raw profile type APP1")
_RAW_XMP_KEYWORD = b"Raw profile type xmp"


def separate_png(file: BinaryIO) -> Separated:
    """Return the critical chunks as a file, and the orientation.

    Of several orientations this order decides: eXIf chunks, also behind the pixels; the raw profile
    `exif` of ImageMagick; XMP.
    """
    pieces: list[Piece] = [(0, _SIGNATURE_BYTES)]
    exif: list[bytes] = []
    raw_exif: list[bytes] = []
    xmp: list[bytes] = []

    n_blocks = 0
    for offset, length, chunk_type in _iterate_chunks(file):
        if chunk_type[:1].isupper() or not chunk_type.isalpha():
            pieces.append((offset, length))  # critical, or damage that the decoder reports
            continue
        if chunk_type != b"eXIf" and chunk_type not in _TEXT_CHUNKS:
            continue
        if n_blocks == MAX_METADATA_BLOCKS:
            continue

        file.seek(offset + 8)
        data = file.read(min(length - 12, MAX_METADATA_BYTES))
        if chunk_type == b"eXIf":
            exif.append(data)
            n_blocks += 1
            continue
        keyword, text = _read_text(chunk_type, data)
        n_blocks += bool(text)
        if keyword == _XMP_KEYWORD:
            xmp.append(text)
        elif keyword == _RAW_XMP_KEYWORD:
            xmp.append(_read_raw_profile(text))
        elif keyword in _RAW_EXIF_KEYWORDS:
            raw_exif.append(_read_raw_profile(text))
    return Separated.from_blocks(join_pieces(file, pieces), [*exif, *raw_exif], xmp)


def _iterate_chunks(file: BinaryIO) -> Iterator[tuple[int, int, bytes]]:
    """Yield (offset, length with header and checksum, type) of each chunk up to IEND.

    If no chunk begins where one must, all the rest of the file is the last item.
    """
    end, at = file.seek(0, 2), _SIGNATURE_BYTES
    while at < end:
        file.seek(at)
        header = file.read(8)
        length, chunk_type = int.from_bytes(header[:4], "big"), header[4:8]
        if len(header) < 8 or length > 0x7FFFFFFF or not chunk_type.isalpha():
            yield at, end - at, b"\0"
            return
        yield at, min(length + 12, end - at), chunk_type
        if chunk_type == b"IEND":
            return
        at += length + 12


def _read_text(chunk_type: bytes, data: bytes) -> tuple[bytes, bytes]:
    """Return the keyword and the inflated text of a chunk; no text for keywords of no use."""
    keyword, _, rest = data.partition(b"\0")
    if keyword not in (_XMP_KEYWORD, _RAW_XMP_KEYWORD, *_RAW_EXIF_KEYWORDS):
        return keyword, b""
    if chunk_type == b"tEXt":
        return keyword, rest
    if chunk_type == b"zTXt":
        return keyword, _inflate(rest[1:])
    is_compressed = rest[:1] == b"\1"
    text = rest[2:].partition(b"\0")[2].partition(b"\0")[2]  # after language, translated keyword
    return keyword, _inflate(text) if is_compressed else text


def _inflate(data: bytes) -> bytes:
    """Inflate at most MAX_METADATA_BYTES; what precedes damage is kept."""
    try:
        return zlib.decompressobj().decompress(data, MAX_METADATA_BYTES)
    except zlib.error:
        return b""


def _read_raw_profile(text: bytes) -> bytes:
    """Return the bytes of a raw profile: its name, its length and lines of hexadecimal digits."""
    found = re.match(rb"\s*\S+\s+\d+\s+([0-9a-fA-F\s]*)", text)
    digits = b"".join(found[1].split()) if found else b""
    return bytes.fromhex(digits[: len(digits) // 2 * 2].decode("ascii"))
