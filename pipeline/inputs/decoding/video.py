"""One video file: which frames it has and when each is shown, and its frames by their number.

By PyAV, which brings its own FFmpeg: the same frames on every machine, and damage is told, not painted over.
"""

import os
from dataclasses import dataclass
from fractions import Fraction
from importlib.metadata import version
from typing import Any, BinaryIO

import av
import numpy as np
import torch
from av.container import InputContainer
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from torch import Tensor

from pipeline.core.types import InputError, Status

VIDEO_SUFFIXES = frozenset((
    ".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ogv", ".ts", ".webm", ".wmv",
))  # fmt: skip
VIDEO_DECODER = f"video: av {version('av')}"
_OPTIONS = {
    # by content, whatever the file's name: no playlists (HLS, DASH, concat), which would open other files and addresses
    "format_whitelist": "mov,matroska,webm,avi,mpeg,mpegts,asf,flv,ogg",
    "fflags": "+genpts",  # AVI carries no presentation times
}
_SEEK_COSTS = 16  # as much as decoding so many frames: the decoder's threads begin anew
_MOST_PIXELS = (
    1 << 27
)  # of a frame; more is no video but a bomb. The user's own cap, max_pixels, comes later
_FAILURES = (
    av.FFmpegError,
    ValueError,
    IndexError,
)  # the latter two for damage, in PyAV's own code
_MAGIC = {
    b"\x1a\x45\xdf\xa3": "Matroska or WebM",
    b"RIFF": "AVI",
    b"FLV\x01": "FLV",
    b"OggS": "Ogg",
    b"\0\0\1\xba": "MPEG",
}


@dataclass(frozen=True)
class VideoIndex:
    """What is known of a video before its frames are decoded. Frames are numbered in the order they are shown."""

    pts: np.ndarray  # (F,) int64, ascending, in units of `time_base`
    keyframes: np.ndarray  # (K,) int64, ascending: the pts at which decoding can begin
    time_base: Fraction  # seconds
    last_duration: int  # of the last frame, in units of `time_base`
    size_hw: tuple[int, int]  # upright, pixels
    rotation: int  # degrees counterclockwise that make a stored frame upright
    incomplete: (
        str | None
    )  # what is wrong with a file that ends before it should; the frames listed are there

    def __len__(self) -> int:
        return len(self.pts)

    @property
    def times(self) -> np.ndarray:
        """(F,) float64: seconds from the first frame to each. Exact where the frame rate varies."""
        return (self.pts - self.pts[0]) * float(self.time_base)

    @property
    def end(self) -> float:
        """Seconds from the first frame to the end of the last."""
        return float((self.pts[-1] - self.pts[0] + self.last_duration) * self.time_base)


def read_video_index(file: BinaryIO) -> VideoIndex:
    """Read every packet's header. Raises InputError: EMPTY, UNSUPPORTED, TRUNCATED, CORRUPT, TOO_LARGE."""
    if file.seek(0, os.SEEK_END) == 0:
        raise InputError(Status.EMPTY, "the file has zero bytes")
    try:
        with _open(file) as container:
            stream = _video_stream(container)
            width, height = stream.codec_context.width, stream.codec_context.height
            if width * height > _MOST_PIXELS:
                raise InputError(
                    Status.TOO_LARGE, f"its frames have {width}x{height} pixels", (height, width)
                )
            promised = (
                stream.frames if "mp4" in container.format.name else 0
            )  # AVI counts frames that are not there
            time_base = Fraction(stream.time_base or 1)
            packets, stopped = _packets(container, stream)
        with _open(file) as container:
            first = next(container.decode(_video_stream(container)), None)
    except _FAILURES as error:
        raise _failure(file, error) from None
    if not packets or first is None:
        raise InputError(Status.CORRUPT, stopped or "no frame of it can be decoded")
    if any(pts is None for pts, _, _ in packets):
        raise InputError(
            Status.UNSUPPORTED, "its frames carry no times; copy it into an MP4 or Matroska file"
        )
    packets.sort()
    pts = np.unique(np.array([pts for pts, _, _ in packets], dtype=np.int64))
    if len(pts) < promised:
        stopped = (
            f"the file ends early: its header tells of {promised} frames, {len(pts)} are there"
        )
    rotation = round(first.rotation / 90) * 90 % 360
    return VideoIndex(
        pts=pts,
        keyframes=np.array([at for at, _, key in packets if key] or [pts[0]], dtype=np.int64),
        time_base=time_base,
        last_duration=packets[-1][1] or (int(pts[-1] - pts[-2]) if len(pts) > 1 else 0),
        size_hw=(first.width, first.height) if rotation % 180 else (first.height, first.width),
        rotation=rotation,
        incomplete=stopped,
    )


def _packets(
    container: InputContainer, stream: VideoStream
) -> tuple[list[tuple[Any, int, bool]], str | None]:
    """(pts, duration, is a key frame) of each frame that is shown, in the order of the file; and why reading stopped before
    the file's end, if it did."""
    packets = []
    try:
        for packet in container.demux(stream):
            # not the empty packet that ends a stream, and not what an edit list hides
            if packet.size > 0 and not packet.is_discard:
                packets.append((packet.pts, packet.duration or 0, packet.is_keyframe))
    except _FAILURES as error:
        return packets, f"the file cannot be read beyond frame {len(packets)}: {_said(error)}"
    return packets, None


class FrameReader:
    """Frames of an open video by number; ascending numbers cost least. `file` is closed with it, `index` is the file's."""

    def __init__(self, file: BinaryIO, index: VideoIndex) -> None:
        self.file, self.index = file, index
        self.at = -1  # the number of the last frame given, -1 before the first
        self.last: Tensor | None = None
        self.to_rgb = (
            VideoReformatter()
        )  # kept, because making its tables costs more than a conversion
        try:
            self._start()
        except _FAILURES as error:
            refusal = _failure(file, error)
            file.close()
            raise refusal from None

    def frame(self, number: int) -> Tensor:
        """(3, H, W) uint8 RGB, upright. Raises InputError."""
        if number == self.at and self.last is not None:
            return self.last
        self.last = None
        try:
            found = self._find(number)
        except _FAILURES as error:
            self._lost = True
            raise InputError(
                Status.CORRUPT,
                f"frame {number} cannot be decoded: {_said(error)}",
                self.index.size_hw,
            ) from None
        if found is None or found.is_corrupt:
            raise InputError(
                Status.CORRUPT, f"frame {number} is damaged or missing", self.index.size_hw
            )
        stored = self.to_rgb.reformat(found, format="rgb24").to_ndarray()  # (H, W, 3)
        turned = np.rot90(stored, self.index.rotation // 90).transpose(2, 0, 1)  # (3, H, W)
        # by numpy: torch would start its threads for these few bytes, at twice the time of the decoding (measured)
        self.at, self.last = number, torch.from_numpy(np.ascontiguousarray(turned))
        return self.last

    def _find(self, number: int) -> av.VideoFrame | None:
        pts = int(self.index.pts[number])
        before = self.index.keyframes[self.index.keyframes <= pts]
        key = (
            int(before[-1]) if len(before) else int(self.index.pts[0])
        )  # a file may begin in the middle of a group
        saved = np.searchsorted(self.index.pts, key) - self.at  # frames that need not be decoded
        seek = self._lost or number <= self.at or saved > _SEEK_COSTS
        if seek:
            self.container.seek(key, stream=self.stream)
            self.decoded = self.container.decode(self.stream)
        found, at_once = self._decode_until(pts)
        if seek and (
            found is None or (at_once and found.pts != pts)
        ):  # MPEG-TS: seeking lands behind what was asked for
            self.container.close()
            self._start()
            found, _ = self._decode_until(pts)
        self._lost = found is None or found.pts != pts
        return None if self._lost else found

    def close(self) -> None:
        self.container.close()
        self.file.close()

    def _start(self) -> None:
        self.container = _open(self.file)
        self.stream = _video_stream(self.container)
        self.stream.thread_type = "AUTO"  # frames in parallel; the result is the same
        self.decoded = self.container.decode(self.stream)
        self._lost = False  # True: where the decoder stands is not known

    def _decode_until(self, pts: int) -> tuple[av.VideoFrame | None, bool]:
        """The first frame shown at `pts` or later, None where none comes; and whether it is the first one decoded."""
        for i, frame in enumerate(self.decoded):
            if frame.pts is not None and frame.pts >= pts:
                return frame, i == 0
        return None, False


def _open(file: BinaryIO) -> InputContainer:
    file.seek(0)
    return av.open(file, "r", options=_OPTIONS)


def _video_stream(container: InputContainer) -> VideoStream:
    stream = container.streams.best("video")
    if not isinstance(stream, VideoStream) or stream.codec_context is None:
        raise InputError(
            Status.UNSUPPORTED, "it has no video track, or one whose codec is not decoded"
        )
    return stream


def _said(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def _failure(file: BinaryIO, error: Exception) -> InputError:
    """Name what is wrong with a file that FFmpeg refused."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    start = file.read(12)
    said = _said(error)
    if start[4:8] in (b"ftyp", b"moov", b"mdat", b"free", b"wide"):
        if not _has_moov(file, size):
            return InputError(
                Status.TRUNCATED,
                f"an MP4 or QuickTime file that ends before its index, after {size} bytes",
            )
        return InputError(Status.CORRUPT, f"MP4 or QuickTime: {said}")
    if start[:4] in _MAGIC:
        return InputError(Status.CORRUPT, f"{_MAGIC[start[:4]]}: {said}")
    return InputError(
        Status.UNSUPPORTED,
        f"the content is no known video format (begins with {start[:8].hex(' ')})",
    )


def _has_moov(file: BinaryIO, size: int) -> bool:
    """Whether the list of top-level boxes (ISO/IEC 14496-12) has a complete `moov`."""
    at = 0
    while at + 8 <= size:
        file.seek(at)
        head = file.read(16)
        length = int.from_bytes(head[:4], "big")
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        if head[4:8] == b"moov":
            return at + length <= size
        if length < 8:
            return False
        at += length
    return False
