"""Small videos whose frames carry their own number, so that a test can tell which frame it got."""

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from torch import Tensor

SIZE_HW = (32, 128)
_BITS = 8  # one block of 16 x 32 pixels each: white is 1


def numbered(number: int) -> np.ndarray:
    """(32, 128, 3) uint8: the number in black and white blocks, bits 0-7 from left to right, in the upper half."""
    bits = [255 * (number >> bit & 1) for bit in range(_BITS)]
    picture = np.zeros((*SIZE_HW, 3), dtype=np.uint8)
    picture[:16] = np.repeat(bits, SIZE_HW[1] // _BITS)[None, :, None]
    return picture


def number_of(frame: Tensor) -> int:
    """The number that `numbered` put into a (3, 32, 128) frame, lossy compression forgiven."""
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
    """Frames 0, 1, 2 ... shown at `times` (seconds). A group of pictures is ten frames, with B-frames where the codec has
    them. `rotation`: degrees counterclockwise that a player is told to turn it by; `options`: the container's."""
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
    return [i / fps for i in range(n)]
