"""Make small videos whose frames show their own number, so that a test can tell frames apart."""

from collections.abc import Iterable
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
) -> Path:
    """Make a video of numbered frames: 0, 1, 2 ...

    A group of pictures has ten frames, with B-frames if the codec has them.

    Args:
        path: The file to make.
        times: The time of each frame in seconds.
        codec: Name of the codec.
        rotation: Degrees counterclockwise by which a player turns the frames.
        options: Options of the container.

    Returns:
        `path`.
    """
    with av.open(path, "w", options=options or {}) as container:
        stream: Any = container.add_stream(codec, rate=Fraction(1000))
        stream.height, stream.width = SIZE_HW
        stream.pix_fmt = "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        stream.codec_context.gop_size, stream.codec_context.bit_rate = 10, 1_000_000
        if rotation:
            stream.set_display_rotation(rotation)
        for number, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(numbered(number), format="rgb24")
            frame.pts, frame.time_base = round(time * 1000), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def steady(n: int, fps: float = 25.0) -> list[float]:
    """Return the times of n frames at a constant rate, in seconds."""
    return [i / fps for i in range(n)]
