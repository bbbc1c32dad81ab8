"""Find out from a container's own lengths whether a video file was cut short.

FFmpeg reads what is there of a cut file and does not report that the rest is missing. These
functions read the lengths of the outermost elements only. A file that is cut exactly between two
elements of an open-ended format, such as MPEG-TS, cannot be told from a complete one.
"""

import os
from collections.abc import Callable, Iterator
from typing import BinaryIO

_MP4_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"styp", b"moof", b"sidx")
_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
_ASF_HEADER = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_TS_SYNC, _TS_PACKET_SIZES = 0x47, (188, 192, 204)
_PS_PACK, _PS_END = b"\0\0\1\xba", b"\0\0\1\xb9"
_TAIL_BYTES = 1 << 17  # in which the last element of an open-ended format is looked for


def find_missing_end(file: BinaryIO) -> str | None:
    """Return why the file is cut short, e.g. `the file ends after 10 of 20 bytes`; else None."""
    size = file.seek(0, os.SEEK_END)
    start = _read_at(file, 0, 16)
    expected = _find_end_reader(start)(file, size)
    if expected <= size:
        return None
    return f"the file ends early: {size} of at least {expected} bytes are there"


EndReader = Callable[[BinaryIO, int], int]  # file, its size -> the size that it should have


def _find_end_reader(start: bytes) -> EndReader:
    if start[4:8] in _MP4_BOXES:
        return _read_mp4_end
    if start[:4] == b"FLV\x01":
        return _read_flv_end
    for signature, reader in _READERS.items():
        if start.startswith(signature):
            return reader
    if start[:1] == bytes([_TS_SYNC]) or start[4:5] == bytes([_TS_SYNC]):
        return _read_ts_end
    return _keep_size


def _keep_size(file: BinaryIO, size: int) -> int:
    return size


def _read_mp4_end(file: BinaryIO, size: int) -> int:
    """ISO/IEC 14496-12: boxes with a 32-bit length, or a 64-bit length behind the name."""
    names = set()
    for at, name, length in _iterate_boxes(file, size):
        names.add(name)
        if at + length > size:
            return at + length
    # `moov` is the index of a video. An image in such a file has `meta` instead.
    return size if names & {b"moov", b"meta"} else size + 1


def _iterate_boxes(file: BinaryIO, size: int) -> Iterator[tuple[int, bytes, int]]:
    """Yield (position, name, length) of the top-level boxes."""
    at = 0
    while at < size:
        head = _read_at(file, at, 16)
        length, name = int.from_bytes(head[:4], "big"), head[4:8]
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        elif length == 0:  # up to the end of the file
            length = size - at
        if length < 8 or not name.isalnum():  # padding, or something else was appended
            return
        yield at, name, length
        at += length


def _read_matroska_end(file: BinaryIO, size: int) -> int:
    """RFC 8794 and RFC 9559: the EBML header, then a segment whose children have lengths."""
    end, content = 0, 0
    for content, name, length in _iterate_elements(file, 0, size):
        end = size if length is None else content + length
        if name == _SEGMENT and length is None:  # recorded live: look at its children
            ends = (
                at + length for at, _, length in _iterate_elements(file, content, size) if length
            )
            return max(ends, default=size)
        if name == _SEGMENT or end > size:
            return end
    return size + 1 if end == size else size  # the header alone, or no Matroska file


def _iterate_elements(
    file: BinaryIO, at: int, size: int
) -> Iterator[tuple[int, bytes, int | None]]:
    """Yield (position of the content, name, length or None if not known) of EBML elements."""
    while at < size:
        head = _read_at(file, at, 12)
        name_length = 9 - head[0].bit_length()
        if not 1 <= name_length <= 4 or len(head) <= name_length or not head[name_length]:
            return
        n = 9 - head[name_length].bit_length()
        value = int.from_bytes(head[name_length : name_length + n], "big") & ((1 << 7 * n) - 1)
        length = None if value == (1 << 7 * n) - 1 else value
        content = at + name_length + n
        yield content, head[:name_length], length
        if length is None:
            return
        at = content + length


def _read_avi_end(file: BinaryIO, size: int) -> int:
    """RIFF: one or several chunks, each with its length. 0 or all ones: it was never filled in."""
    at = 0
    while at + 8 <= size:
        head = _read_at(file, at, 12)
        length = int.from_bytes(head[4:8], "little")
        if head[:4] != b"RIFF" or head[8:11] != b"AVI" or length in (0, 0xFFFFFFFF):
            return size
        at += 8 + length
        if at > size:
            return at
        at += length % 2
    return size


def _read_asf_end(file: BinaryIO, size: int) -> int:
    """ASF: a header object, then the data object, each with its length. 0: it was streamed."""
    header_length = int.from_bytes(_read_at(file, 16, 8), "little")
    data_length = int.from_bytes(_read_at(file, header_length + 16, 8), "little")
    return max(header_length + 24, header_length + data_length)


def _read_flv_end(file: BinaryIO, size: int) -> int:
    """FLV: the last four bytes are the length of the tag before them."""
    length = int.from_bytes(_read_at(file, size - 4, 4), "big")
    if length < 11 or length + 17 > size:
        return size + 1
    tag = _read_at(file, size - 4 - length, 4)
    return size if int.from_bytes(tag[1:4], "big") + 11 == length else size + 1


def _read_ogg_end(file: BinaryIO, size: int) -> int:
    """Ogg: pages, each with a table of the lengths of its segments."""
    first = max(0, size - _TAIL_BYTES)
    tail = _read_at(file, first, _TAIL_BYTES)
    page = tail.rfind(b"OggS")
    table = tail[page + 27 : page + 27 + tail[page + 26]] if len(tail) > page + 26 else b""
    if page < 0:
        return size
    if not table or len(table) < tail[page + 26]:
        return size + 1
    return first + page + 27 + len(table) + sum(table)


def _read_ts_end(file: BinaryIO, size: int) -> int:
    """MPEG-TS: packets of one size, each beginning with a sync byte."""
    head = _read_at(file, 0, 5 * max(_TS_PACKET_SIZES))
    for length in _TS_PACKET_SIZES:
        first = length - 188 if length == 192 else 0  # 192: a time of four bytes before each
        syncs = head[first::length]
        if syncs and all(sync == _TS_SYNC for sync in syncs):
            return size if size % length == 0 else size - size % length + length
    return size


def _read_ps_end(file: BinaryIO, size: int) -> int:
    """MPEG program stream: packs of packets, which have lengths. The end code is often left out."""
    first = max(0, size - _TAIL_BYTES)
    tail = _read_at(file, first, _TAIL_BYTES)
    at = tail.rfind(_PS_PACK)
    if at < 0 or tail.endswith(_PS_END):
        return size
    is_mpeg2 = tail[at + 4 : at + 5] and tail[at + 4] >> 6 == 1
    at += (14 + (tail[at + 13] & 7) if len(tail) > at + 13 else 14) if is_mpeg2 else 12
    while at + 6 <= len(tail) and tail[at : at + 3] == _PS_PACK[:3]:
        if tail[at : at + 4] == _PS_END:
            return size
        at += 6 + int.from_bytes(tail[at + 4 : at + 6], "big")
    return max(size, first + at)


def _read_at(file: BinaryIO, position: int, length: int) -> bytes:
    file.seek(max(0, position))
    return file.read(length)


_READERS: dict[bytes, EndReader] = {
    _EBML: _read_matroska_end,
    b"RIFF": _read_avi_end,
    _ASF_HEADER: _read_asf_end,
    b"OggS": _read_ogg_end,
    _PS_PACK: _read_ps_end,
}
