"""One video file: which frames it has and when each is shown, and its frames by their number.

PyAV reads the packets' times; nothing but the first frame is decoded for that. Frames are decoded by torchcodec where
FFmpeg's libraries are installed, else by PyAV, which has its own. Both give the same pixels (a test compares them).
"""

import os
from dataclasses import dataclass
from fractions import Fraction
from importlib.metadata import version
from itertools import dropwhile
from typing import Any, BinaryIO, Protocol

import av
import numpy as np
import torch
from av.container import InputContainer
from av.video.stream import VideoStream
from torch import Tensor

from pipeline.types import InputError, Status

try:
    import torchcodec

    FFMPEG: int | None = getattr(torchcodec, "ffmpeg_major_version", None)  # None where its shared libraries are not found
except (ImportError, RuntimeError):
    FFMPEG = None

SUFFIXES = frozenset((
    ".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ogv", ".ts", ".webm", ".wmv",
))  # fmt: skip
VIDEO_DECODER = f"video: torchcodec {version('torchcodec')}, FFmpeg {FFMPEG}" if FFMPEG else f"video: av {version('av')}"
_OPTIONS = {
    # by content, whatever the file's name: no playlists (HLS, DASH, concat), which would open other files and addresses
    "format_whitelist": "mov,matroska,webm,avi,mpeg,mpegts,asf,flv,ogg",
    "fflags": "+genpts",  # AVI carries no presentation times
}
_MAGIC = {b"\x1a\x45\xdf\xa3": "Matroska or WebM", b"RIFF": "AVI", b"FLV\x01": "FLV", b"OggS": "Ogg", b"\0\0\1\xba": "MPEG"}


@dataclass(frozen=True)
class Index:
    """What is known of a video before its frames are decoded. Frames are numbered in the order they are shown."""

    pts: np.ndarray  # (F,) int64, ascending, in units of `time_base`
    keyframes: np.ndarray  # (K,) int64, ascending: the pts at which decoding can begin
    time_base: Fraction  # seconds
    last_duration: int  # of the last frame, in units of `time_base`
    size_hw: tuple[int, int]  # upright, pixels
    rotation: int  # degrees counterclockwise that make a stored frame upright
    promised: int  # frames that the container's header tells of; 0 where it tells none

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


def read_index(file: BinaryIO) -> Index:
    """Read every packet's header. Raises InputError: EMPTY, UNSUPPORTED, TRUNCATED, CORRUPT."""
    if file.seek(0, os.SEEK_END) == 0:
        raise InputError(Status.EMPTY, "the file has zero bytes")
    try:
        with _open(file) as container:
            stream = _video_stream(container)
            promised, time_base = stream.frames, Fraction(stream.time_base or 1)
            packets = [(p.pts, p.duration or 0, p.is_keyframe) for p in container.demux(stream) if _is_shown(p)]
        with _open(file) as container:
            first = next(container.decode(_video_stream(container)), None)
    except (av.FFmpegError, ValueError) as error:  # PyAV gives some of FFmpeg's answers as ValueError
        raise _failure(file, error) from None
    if not packets or first is None:
        raise InputError(Status.CORRUPT, "no frame of it can be decoded")
    if any(pts is None for pts, _, _ in packets):
        raise InputError(Status.UNSUPPORTED, "its frames carry no times; copy it into an MP4 or Matroska file")
    packets.sort()
    pts = np.unique(np.array([pts for pts, _, _ in packets], dtype=np.int64))
    rotation = round(first.rotation / 90) * 90 % 360
    size_hw = (first.width, first.height) if rotation % 180 else (first.height, first.width)
    return Index(
        pts=pts,
        keyframes=np.array([at for at, _, key in packets if key] or [pts[0]], dtype=np.int64),
        time_base=time_base,
        last_duration=packets[-1][1] or (int(pts[-1] - pts[-2]) if len(pts) > 1 else 0),
        size_hw=size_hw,
        rotation=rotation,
        promised=promised,
    )


class Frames(Protocol):
    """Frames by number; ascending numbers cost least. `at` is the number of the last one, -1 before the first."""

    at: int

    def frame(self, number: int) -> Tensor:
        """(3, H, W) uint8 RGB, upright. Raises InputError."""
        ...

    def close(self) -> None: ...


def open_frames(file: BinaryIO, index: Index) -> Frames:
    """`file` is closed with it. The index must be that of the file."""
    return _TorchcodecFrames(file, index) if FFMPEG else _AvFrames(file, index)


class _TorchcodecFrames:
    def __init__(self, file: BinaryIO, index: Index) -> None:
        from torchcodec.decoders import VideoDecoder  # type: ignore[attr-defined]

        self.file, self.index, self.at = file, index, -1
        file.seek(0)
        source: Any = file
        try:
            self.decoder: Any = VideoDecoder(source, seek_mode="exact", num_ffmpeg_threads=0)  # 0: one per core
        except (RuntimeError, ValueError) as error:
            raise InputError(Status.CORRUPT, f"FFmpeg {FFMPEG} cannot decode it: {error}", index.size_hw) from None

    def frame(self, number: int) -> Tensor:
        try:
            pixels: Tensor = self.decoder.get_frame_at(number).data
        except (RuntimeError, IndexError, ValueError) as error:
            raise InputError(Status.CORRUPT, f"frame {number} cannot be decoded: {error}", self.index.size_hw) from None
        self.at = number
        return pixels

    def close(self) -> None:
        self.file.close()


class _AvFrames:
    def __init__(self, file: BinaryIO, index: Index) -> None:
        self.file, self.index, self.at = file, index, -1
        self.last: Tensor | None = None
        self._start()

    def frame(self, number: int) -> Tensor:
        if number == self.at and self.last is not None:
            return self.last
        at, target = self.index.pts[self.at] if self.at >= 0 else None, int(self.index.pts[number])
        keys = self.index.keyframes
        before = keys[keys <= target]  # empty where the file begins in the middle of a group of pictures
        if self.last is None or at is None or at > target or (len(before) and before[-1] > at):
            self._seek(int(before[-1]) if len(before) else int(self.index.pts[0]))
        try:
            found = self._decode_until(target)
            if found is None:
                self._restart()
                found = self._decode_until(target)
        except av.FFmpegError as error:
            self.last = None
            raise InputError(Status.CORRUPT, f"frame {number} cannot be decoded: {error}", self.index.size_hw) from None
        if found is None or found.is_corrupt:
            self.last = None
            raise InputError(Status.CORRUPT, f"frame {number} is damaged or missing", self.index.size_hw)
        pixels = torch.from_numpy(found.to_ndarray(format="rgb24"))  # (H, W, 3)
        turned = torch.rot90(pixels, self.index.rotation // 90, dims=(0, 1))
        self.at, self.last = number, turned.permute(2, 0, 1).contiguous()
        return self.last

    def close(self) -> None:
        self.container.close()
        self.file.close()

    def _start(self) -> None:
        self.container = _open(self.file)
        self.stream = _video_stream(self.container)
        self.stream.thread_type = "AUTO"  # frames in parallel; the result is the same
        self.decoded = self.container.decode(self.stream)

    def _seek(self, pts: int) -> None:
        self.container.seek(pts, stream=self.stream)
        self.decoded = self.container.decode(self.stream)

    def _restart(self) -> None:
        """From the beginning, for containers in which seeking lands behind the frame that was asked for (MPEG-TS)."""
        self.container.close()
        self._start()

    def _decode_until(self, pts: int) -> av.VideoFrame | None:
        """The frame shown at `pts`; None where the next one decoded is a later one, or none comes."""
        found = next(dropwhile(lambda frame: frame.pts is None or frame.pts < pts, self.decoded), None)
        return found if found is not None and found.pts == pts else None


def _open(file: BinaryIO) -> InputContainer:
    file.seek(0)
    return av.open(file, "r", options=_OPTIONS)


def _video_stream(container: InputContainer) -> VideoStream:
    stream = container.streams.best("video")
    if not isinstance(stream, VideoStream):
        raise InputError(Status.UNSUPPORTED, "it has no video track, or one whose codec is not decoded")
    return stream


def _is_shown(packet: av.Packet) -> bool:
    """Not the empty one that ends a stream, and not what an edit list hides."""
    return packet.size > 0 and not packet.is_discard


def _failure(file: BinaryIO, error: Exception) -> InputError:
    """Name what is wrong with a file that FFmpeg refused."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    start = file.read(12)
    said = getattr(error, "strerror", None) or str(error)
    if start[4:8] in (b"ftyp", b"moov", b"mdat", b"free", b"wide"):
        if not _has_moov(file, size):
            return InputError(Status.TRUNCATED, f"an MP4 or QuickTime file that ends before its index, after {size} bytes")
        return InputError(Status.CORRUPT, f"MP4 or QuickTime: {said}")
    if start[:4] in _MAGIC:
        return InputError(Status.CORRUPT, f"{_MAGIC[start[:4]]}: {said}")
    return InputError(Status.UNSUPPORTED, f"the content is no known video format (begins with {start[:8].hex(' ')})")


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
