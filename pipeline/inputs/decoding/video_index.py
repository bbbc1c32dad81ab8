"""Read the frames of a video and the times at which they are shown, without decoding them."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from typing import Any, BinaryIO

import numpy as np
from av import VideoFrame
from av.container import InputContainer
from av.video.stream import VideoStream

from pipeline.core.types import InputError, Status
from pipeline.inputs.decoding.video_container import (
    VIDEO_ERRORS,
    decode_frames,
    describe_error,
    diagnose_video,
    find_video_stream,
    open_container,
)
from pipeline.inputs.decoding.video_ends import find_missing_end
from pipeline.inputs.decoding.video_frame_times import decode_frame_times
from pipeline.inputs.decoding.video_orientation import Orientation, read_orientation

# Largest number of pixels of a frame. A file that claims more is an attack, not a video. The user's
# own limit, max_pixels, is checked later.
_MAX_FRAME_PIXELS = 1 << 27


class Access(Enum):
    """Method to find the frame with a certain number."""

    SEEK = "by its time, beginning at a key frame"
    TIME = "by its time, beginning at the first frame: times are not reliable after seeking"
    ORDER = "by counting from the first frame: its time does not identify it"


@dataclass(frozen=True)
class VideoIndex:
    """The times of a video's frames and their size, known before the frames are decoded.

    Frames are numbered in the order in which they are shown. Frames that a player does not show,
    because an edit list hides them or because their references were cut off, have no number.
    """

    pts: np.ndarray  # (F,) int64, ascending, in units of `time_base`
    keyframes: np.ndarray  # (K,) int64, ascending: the pts at which decoding can begin
    time_base: Fraction  # seconds
    last_duration: int  # of the last frame, in units of `time_base`
    size_hw: tuple[int, int]  # upright, pixels
    orientation: Orientation  # makes a stored frame upright
    access: Access
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
    """Read the header of every packet, and decode one frame to learn the size and orientation.

    All frames are decoded if the packets do not say when the frames are shown.

    Raises:
        InputError: EMPTY, UNSUPPORTED, TRUNCATED, CORRUPT or TOO_LARGE.
    """
    if file.seek(0, os.SEEK_END) == 0:
        raise InputError(Status.EMPTY, "the file has zero bytes")
    try:
        with open_container(file) as container:
            stream = find_video_stream(container)
            _check_frame_size(stream)
            packets, problem = _read_packets(container, stream)
            problem = find_missing_end(file) or _find_missing_samples(file, stream) or problem
            time_base = Fraction(stream.time_base or 1)
        with open_container(file) as container:
            first = next(decode_frames(container, find_video_stream(container)), None)
        if not packets or first is None:
            raise InputError(
                Status.TRUNCATED if problem else Status.CORRUPT,
                problem or "no frame of it can be decoded",
            )
        access, pts = _list_frame_times(file, packets, first)
    except VIDEO_ERRORS as error:
        raise diagnose_video(file, error) from None
    except InputError as error:
        missing = find_missing_end(file) if error.status is Status.UNSUPPORTED else None
        raise InputError(Status.TRUNCATED, missing) if missing else error from None

    keyframes = sorted(
        packet.pts for packet in packets if packet.is_keyframe and packet.pts is not None
    )
    last = max(packets, key=lambda packet: packet.pts or 0)
    orientation = read_orientation(first)
    return VideoIndex(
        pts=pts,
        keyframes=np.array(keyframes or [pts[0]], dtype=np.int64),
        time_base=time_base,
        last_duration=last.duration or (int(pts[-1] - pts[-2]) if len(pts) > 1 else 0),
        size_hw=orientation.turn_size_hw((first.height, first.width)),
        orientation=orientation,
        access=access,
        incomplete=problem,
    )


def _check_frame_size(stream: VideoStream) -> None:
    width, height = stream.codec_context.width, stream.codec_context.height
    if width * height > _MAX_FRAME_PIXELS:
        raise InputError(
            Status.TOO_LARGE, f"its frames have {width}x{height} pixels", (height, width)
        )


@dataclass(frozen=True)
class _Packet:
    """The header of a packet. Times are in units of the stream's time base."""

    pts: Any  # when its frame is shown; None if it is not known
    dts: Any  # when it is decoded; None if it is not known
    duration: int
    is_keyframe: bool


def _read_packets(
    container: InputContainer, stream: VideoStream
) -> tuple[list[_Packet], str | None]:
    """Read the headers of all packets that an edit list does not hide, in the order of the file.

    Also returns why reading stopped before the end of the file, or None.
    """
    packets = []
    try:
        for packet in container.demux(stream):
            if packet.size > 0 and not packet.is_discard:  # the last packet is empty
                packets.append(
                    _Packet(packet.pts, packet.dts, packet.duration or 0, packet.is_keyframe)
                )
    except VIDEO_ERRORS as error:
        reason = describe_error(error)
        return packets, f"the file cannot be read beyond frame {len(packets)}: {reason}"
    return packets, None


def _find_missing_samples(file: BinaryIO, stream: VideoStream) -> str | None:
    """Return that the index of an MP4 file lists samples beyond the end of the file, or None."""
    if "mp4" not in stream.container.format.name:
        return None
    size = file.seek(0, os.SEEK_END)
    expected = max((sample.pos + sample.size for sample in stream.index_entries), default=0)
    if expected <= size:
        return None
    return f"the file ends early: {size} of at least {expected} bytes are there"


def _list_frame_times(
    file: BinaryIO, packets: Sequence[_Packet], first: VideoFrame
) -> tuple[Access, np.ndarray]:
    """Return how frames are found, and (F,) int64, ascending: the time of each in its units."""
    with open_container(file) as container:
        stream = find_video_stream(container)
        # AVI has only times of decoding. FFmpeg derives the others from them, which goes wrong for
        # H.264 and for MPEG-4 that has two frames in a packet.
        has_decoding_times_only = (
            container.format.name == "avi" and stream.codec_context.has_b_frames
        )
        pts = [packet.pts for packet in packets]
        is_timed = None not in pts and len(set(pts)) == len(pts)
        if first.pts is not None and is_timed and not has_decoding_times_only:
            shown = np.array(sorted(pts), dtype=np.int64)
            access = Access.TIME if container.format.name == "mpeg" else Access.SEEK
            # The decoder leaves out frames before the first key frame, and those after it that
            # refer to frames before it.
            return access, shown[shown >= first.pts]

        stream.thread_type = "AUTO"
        dts = [packet.dts for packet in packets if packet.dts is not None]
        second = round(1 / Fraction(stream.time_base or 1))
        times = decode_frame_times(
            decode_frames(container, stream),
            dts if has_decoding_times_only else None,
            second,
        )
        return Access.ORDER, times
