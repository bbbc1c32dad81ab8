"""Open video files with PyAV, and diagnose files that cannot be read.

PyAV includes its own FFmpeg, so the same file gives the same frames on every machine. Damage is
reported instead of concealed.
"""

import os
from importlib.metadata import version
from typing import BinaryIO

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from pipeline.core.types import InputError, Status

VIDEO_SUFFIXES = frozenset((
    ".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts",
    ".ogv", ".ts", ".webm", ".wmv",
))  # fmt: skip
VIDEO_DECODER = f"video: av {version('av')}"
# Errors that PyAV raises for damaged files. The last two come from PyAV's own code.
VIDEO_ERRORS = (av.FFmpegError, ValueError, IndexError)

_OPTIONS = {
    # FFmpeg recognizes the format by the content, not by the file's name. Playlists (HLS, DASH,
    # concat) are not allowed, because they would open other files and addresses.
    "format_whitelist": "mov,matroska,webm,avi,mpeg,mpegts,asf,flv,ogg",
    "fflags": "+genpts",  # AVI has no presentation times
}
_SIGNATURES = {
    b"\x1a\x45\xdf\xa3": "Matroska or WebM",
    b"RIFF": "AVI",
    b"FLV\x01": "FLV",
    b"OggS": "Ogg",
    b"\0\0\1\xba": "MPEG",
}
_MP4_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"wide")  # boxes that an MP4 file may begin with


def open_container(file: BinaryIO) -> InputContainer:
    """Open a video file from its beginning. Raises VIDEO_ERRORS."""
    file.seek(0)
    return av.open(file, "r", options=_OPTIONS)


def find_video_stream(container: InputContainer) -> VideoStream:
    """Return the best video track. Raises InputError if there is none that can be decoded."""
    stream = container.streams.best("video")
    if not isinstance(stream, VideoStream) or stream.codec_context is None:
        raise InputError(
            Status.UNSUPPORTED, "it has no video track, or one whose codec is not decoded"
        )
    return stream


def describe_error(error: Exception) -> str:
    """Return FFmpeg's message without the error numbers around it."""
    return getattr(error, "strerror", None) or str(error)


def diagnose_video(file: BinaryIO, error: Exception) -> InputError:
    """Return an InputError with the status and message for a file that FFmpeg refused.

    `error` is FFmpeg's error.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    start = file.read(12)
    reason = describe_error(error)
    if start[4:8] in _MP4_BOXES:
        if not _has_moov(file, size):
            return InputError(
                Status.TRUNCATED,
                f"an MP4 or QuickTime file that ends before its index, after {size} bytes",
            )
        return InputError(Status.CORRUPT, f"MP4 or QuickTime: {reason}")
    if start[:4] in _SIGNATURES:
        return InputError(Status.CORRUPT, f"{_SIGNATURES[start[:4]]}: {reason}")
    return InputError(
        Status.UNSUPPORTED,
        f"the content is no known video format (begins with {start[:8].hex(' ')})",
    )


def _has_moov(file: BinaryIO, size: int) -> bool:
    """Return whether the top-level boxes (ISO/IEC 14496-12) include a complete `moov`."""
    at = 0
    while at + 8 <= size:
        file.seek(at)
        head = file.read(16)
        length = int.from_bytes(head[:4], "big")
        if length == 1:  # the 64-bit length follows the box's name
            length = int.from_bytes(head[8:16], "big")
        if head[4:8] == b"moov":
            return at + length <= size
        if length < 8:
            return False
        at += length
    return False
