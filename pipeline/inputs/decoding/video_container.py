"""Open video files with PyAV, and diagnose files that cannot be read.

PyAV includes its own FFmpeg, so the same file gives the same frames on every machine. Damage is
reported instead of concealed.
"""

from collections.abc import Iterator
from importlib.metadata import version
from typing import BinaryIO

import av
from av import VideoFrame
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from pipeline.core.types import InputError, Status
from pipeline.inputs.decoding.video_ends import find_missing_end

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
    b"\x30\x26\xb2\x75": "ASF or WMV",
}
_MP4_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"wide")  # boxes that an MP4 file may begin with


def open_container(file: BinaryIO) -> InputContainer:
    """Open a video file from its beginning. Raises VIDEO_ERRORS."""
    file.seek(0)
    return av.open(file, "r", options=_OPTIONS)


def find_video_stream(container: InputContainer) -> VideoStream:
    """Return the best video track. Raises InputError if there is none that can be decoded.

    A cover picture is stored as a video track too, and may be the first one. It is never chosen.
    """
    stream = container.streams.best("video")
    tracks = [track for track in container.streams.video if not _is_cover(track)]
    if isinstance(stream, VideoStream) and _is_cover(stream) and tracks:
        stream = tracks[0]
    if not isinstance(stream, VideoStream) or stream.codec_context is None:
        raise InputError(
            Status.UNSUPPORTED, "it has no video track, or one whose codec is not decoded"
        )
    if _is_cover(stream):
        raise InputError(Status.UNSUPPORTED, "it has no video track, only a cover picture")
    return stream


def decode_frames(container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
    """Yield the frames in the order in which they are shown. Raises VIDEO_ERRORS.

    Packets that cannot be decoded are passed over, as a player does. There are such packets at the
    beginning of a recording or copy that does not begin with a key frame.
    """
    for packet in container.demux(stream):
        try:
            frames = packet.decode()
        except av.FFmpegError:
            continue
        for frame in frames:
            if isinstance(frame, VideoFrame):
                yield frame


def _is_cover(stream: VideoStream) -> bool:
    return bool(stream.disposition & Disposition.attached_pic)


def describe_error(error: Exception) -> str:
    """Return FFmpeg's message without the error numbers around it."""
    return getattr(error, "strerror", None) or str(error)


def diagnose_video(file: BinaryIO, error: Exception) -> InputError:
    """Return an InputError with the status and message for a file that FFmpeg refused.

    `error` is FFmpeg's error.
    """
    file.seek(0)
    start = file.read(12)
    reason = describe_error(error)
    if missing := find_missing_end(file):
        return InputError(Status.TRUNCATED, missing)
    if start[4:8] in _MP4_BOXES:
        return InputError(Status.CORRUPT, f"MP4 or QuickTime: {reason}")
    if start[:4] in _SIGNATURES:
        return InputError(Status.CORRUPT, f"{_SIGNATURES[start[:4]]}: {reason}")
    return InputError(
        Status.UNSUPPORTED,
        f"the content is no known video format (begins with {start[:8].hex(' ')})",
    )
