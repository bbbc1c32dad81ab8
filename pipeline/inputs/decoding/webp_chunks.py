"""Separate the picture of a WebP file from its metadata (RFC 9649)."""

import io
from typing import BinaryIO

from pipeline.inputs.decoding.separated import MAX_METADATA_BYTES, Separated

_PICTURE_CHUNKS = (b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF")
_HEADER_BYTES = 12  # RIFF, size, WEBP
_METADATA_FLAGS = 0b00101100  # of VP8X: ICC profile, EXIF, XMP


def separate_webp(file: BinaryIO) -> Separated:
    """Return the chunks of the picture as a file, and the orientation: of EXIF, then of XMP.

    A file that is cut before its picture's end is returned as it is, for the decoder to refuse.
    """
    file.seek(0)
    data = file.read()
    chunks: list[bytes] = []
    exif: list[bytes] = []
    xmp: list[bytes] = []

    at, end = _HEADER_BYTES, 8 + int.from_bytes(data[4:8], "little")
    while at + 8 <= min(end, len(data)):
        name, length = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        chunk_end = at + 8 + length
        if name in _PICTURE_CHUNKS:
            if chunk_end > len(data):
                return Separated(io.BytesIO(data))
            padded = data[at:chunk_end] + b"\0" * (length % 2)
            chunks.append(_clear_flags(padded) if name == b"VP8X" else padded)
        elif name in (b"EXIF", b"XMP "):
            blocks = exif if name == b"EXIF" else xmp
            blocks.append(data[at + 8 : min(chunk_end, at + 8 + MAX_METADATA_BYTES)])
        at = chunk_end + length % 2

    if not chunks:
        return Separated(io.BytesIO(data))
    body = b"WEBP" + b"".join(chunks)
    picture = b"RIFF" + len(body).to_bytes(4, "little") + body
    return Separated.from_blocks(io.BytesIO(picture), exif, xmp)


def _clear_flags(chunk: bytes) -> bytes:
    """Return the chunk VP8X without the flags that announce metadata."""
    flags = bytes(flag & ~_METADATA_FLAGS for flag in chunk[8:9])
    return chunk[:8] + flags + chunk[9:]
