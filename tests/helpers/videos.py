"""Make small videos whose frames show their own number, so that a test can tell frames apart."""

from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from torch import Tensor

SIZE_HW = (32, 128)
_BITS = 8  # each is a block of 16 x 16 pixels: white is 1


def numbered(number: int) -> np.ndarray:
    """Make a frame (32, 128, 3) uint8 that shows a number.

    The upper half has a black or white block for each bit, bits 0-7 from left to right.
    """
    bits = [255 * (number >> bit & 1) for bit in range(_BITS)]
    picture = np.zeros((*SIZE_HW, 3), dtype=np.uint8)
    picture[:16] = np.repeat(bits, SIZE_HW[1] // _BITS)[None, :, None]
    return picture


def number_of(frame: Tensor) -> int:
    """Read the number in a frame (3, 32, 128), which may have been compressed with losses."""
    blocks = frame[:, 2:14].float().mean(dim=(0, 1)).reshape(_BITS, -1)[:, 4:-4].mean(dim=1)
    assert ((blocks < 60) | (blocks > 195)).all(), "not one of our frames"
    return sum(1 << bit for bit, white in enumerate((blocks > 128).tolist()) if white)


def make_video(
    path: Path,
    times: Iterable[float],
    codec: str = "libx264",
    rotation: int = 0,
    options: dict[str, str] | None = None,
    codec_options: dict[str, str] | None = None,
    matrix: Sequence[int] | None = None,
    rate: int = 1000,
) -> Path:
    """Make a video of numbered frames: 0, 1, 2 ...

    A group of pictures has ten frames, with B-frames if the codec has them.

    Args:
        path: The file to make.
        times: The time of each frame in seconds.
        codec: Name of the codec.
        rotation: Degrees counterclockwise by which a player turns the frames.
        options: Options of the container.
        codec_options: Options of the codec.
        matrix: The display matrix, nine numbers in FFmpeg's layout.
        rate: Units of time in a second.

    Returns:
        `path`.
    """
    with av.open(path, "w", options=options or {}) as container:
        stream: Any = container.add_stream(codec, rate=Fraction(rate))
        stream.height, stream.width = SIZE_HW
        stream.pix_fmt = "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, rate)
        stream.codec_context.gop_size, stream.codec_context.bit_rate = 10, 1_000_000
        stream.codec_context.options = codec_options or {}
        if rotation:
            stream.set_display_rotation(rotation)
        if matrix:
            stream.set_display_matrix(matrix)
        for number, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(numbered(number), format="rgb24")
            frame.pts, frame.time_base = round(time * rate), Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def steady(n: int, fps: float = 25.0) -> list[float]:
    """Return the times of n frames at a constant rate, in seconds."""
    return [i / fps for i in range(n)]


def copy_video(
    source: Path,
    path: Path,
    start: float = 0.0,
    end: float = 100.0,
    at_keyframe: bool = True,
    options: dict[str, str] | None = None,
) -> Path:
    """Cut a part out of a video without encoding it again, as `ffmpeg -c copy` does.

    Args:
        source: The video.
        path: The file to make.
        start: Where the part begins, in seconds. What must be decoded before it is copied too, with
            times below 0.
        end: Packets that are decoded at this second or later are left out.
        at_keyframe: Begin at the key frame before `start`; else at the first packet after it,
            which usually cannot be decoded.
        options: Options of the container.

    Returns:
        `path`.
    """
    with av.open(source) as given, av.open(path, "w", options=options or {}) as made:
        track = given.streams.video[0]
        copied = made.add_stream_from_template(track)
        packets = [packet for packet in given.demux(track) if packet.size]
        times = [float((packet.dts or 0) * packet.time_base) for packet in packets]
        first = next(i for i, time in enumerate(times) if time >= start)
        while at_keyframe and first > 0 and not packets[first].is_keyframe:
            first -= 1
        shift = round((start if at_keyframe else times[first]) / packets[0].time_base)
        for packet, time in zip(packets, times, strict=True):
            if time >= times[first] and time < end:
                packet.pts, packet.dts = (packet.pts or 0) - shift, (packet.dts or 0) - shift
                packet.stream = copied
                made.mux(packet)
    return path
