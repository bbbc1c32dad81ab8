"""Read the frames of a video and the times at which they are shown, without decoding them."""

import os
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, BinaryIO

import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream

from pipeline.core.types import InputError, Status
from pipeline.inputs.decoding.video_container import (
    VIDEO_ERRORS,
    describe_error,
    diagnose_video,
    find_video_stream,
    open_container,
)

# Largest number of pixels of a frame. A file that claims more is an attack, not a video. The user's
# own limit, max_pixels, is checked later.
_MAX_FRAME_PIXELS = 1 << 27


@dataclass(frozen=True)
class VideoIndex:
    """The times of a video's frames and their size, known before the frames are decoded.

    Frames are numbered in the order in which they are shown.
    """

    pts: np.ndarray  # (F,) int64, ascending, in units of `time_base`
    keyframes: np.ndarray  # (K,) int64, ascending: the pts at which decoding can begin
    time_base: Fraction  # seconds
    last_duration: int  # of the last frame, in units of `time_base`
    size_hw: tuple[int, int]  # upright, pixels
    rotation: int  # degrees counterclockwise that make a stored frame upright
    # Why the file ends too early; the listed frames exist nevertheless. None: it is complete.
    incomplete: str | None

    def __len__(self) -> int:
        return len(self.pts)

    @property
    def times(self) -> np.ndarray:
        """(F,) float64: seconds from the first frame to each. Exact for variable frame rates."""
        return (self.pts - self.pts[0]) * float(self.time_base)

    @property
    def end(self) -> float:
        """Seconds from the first frame to the end of the last."""
        return float((self.pts[-1] - self.pts[0] + self.last_duration) * self.time_base)


def read_video_index(file: BinaryIO) -> VideoIndex:
    """Read the header of every packet, and decode one frame to learn the size and rotation.

    Raises:
        InputError: EMPTY, UNSUPPORTED, TRUNCATED, CORRUPT or TOO_LARGE.
    """
    if file.seek(0, os.SEEK_END) == 0:
        raise InputError(Status.EMPTY, "the file has zero bytes")
    try:
        with open_container(file) as container:
            stream = find_video_stream(container)
            _check_frame_size(stream)
            # The header of an AVI file may count frames that do not exist.
            promised = stream.frames if "mp4" in container.format.name else 0
            time_base = Fraction(stream.time_base or 1)
            packets, problem = _read_packets(container, stream)
        with open_container(file) as container:
            first = next(container.decode(find_video_stream(container)), None)
    except VIDEO_ERRORS as error:
        raise diagnose_video(file, error) from None

    if not packets or first is None:
        raise InputError(Status.CORRUPT, problem or "no frame of it can be decoded")
    if any(pts is None for pts, _, _ in packets):
        raise InputError(
            Status.UNSUPPORTED, "its frames carry no times; copy it into an MP4 or Matroska file"
        )

    packets.sort()
    pts = np.unique(np.array([pts for pts, _, _ in packets], dtype=np.int64))
    keyframes = [pts for pts, _, is_keyframe in packets if is_keyframe]
    if len(pts) < promised:
        problem = (
            f"the file ends early: its header tells of {promised} frames, {len(pts)} are there"
        )
    rotation = round(first.rotation / 90) * 90 % 360
    is_turned = rotation % 180 != 0
    return VideoIndex(
        pts=pts,
        keyframes=np.array(keyframes or [pts[0]], dtype=np.int64),
        time_base=time_base,
        last_duration=packets[-1][1] or (int(pts[-1] - pts[-2]) if len(pts) > 1 else 0),
        size_hw=(first.width, first.height) if is_turned else (first.height, first.width),
        rotation=rotation,
        incomplete=problem,
    )


def _check_frame_size(stream: VideoStream) -> None:
    width, height = stream.codec_context.width, stream.codec_context.height
    if width * height > _MAX_FRAME_PIXELS:
        raise InputError(
            Status.TOO_LARGE, f"its frames have {width}x{height} pixels", (height, width)
        )


def _read_packets(
    container: InputContainer, stream: VideoStream
) -> tuple[list[tuple[Any, int, bool]], str | None]:
    """Read the packets of all frames that are shown.

    Returns:
        (pts, duration, whether it is a key frame) of each frame, in the order of the file; and why
        reading stopped before the end of the file, or None.
    """
    packets = []
    try:
        for packet in container.demux(stream):
            # Skip the empty packet at the end of the stream, and packets that edit lists hide.
            if packet.size > 0 and not packet.is_discard:
                packets.append((packet.pts, packet.duration or 0, packet.is_keyframe))
    except VIDEO_ERRORS as error:
        reason = describe_error(error)
        return packets, f"the file cannot be read beyond frame {len(packets)}: {reason}"
    return packets, None
