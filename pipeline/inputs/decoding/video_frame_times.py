"""The times of all frames of a video, found by decoding them.

For videos whose packets do not say when their frames are shown: the times are missing, repeated or
those of decoding. It takes as long as decoding the whole video.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from av import VideoFrame

# Time that goes back further begins anew: such a file was put together from several. A smaller step
# back is a wrong time at a cut.
_NEW_START_S = 1.0


def decode_frame_times(
    frames: Iterable[VideoFrame], decoding_times: Sequence[int] | None, second: int
) -> np.ndarray:
    """Return (F,) int64, ascending: the time of each frame that the decoder gives.

    Args:
        frames: All frames of the video, in the order of the decoder.
        decoding_times: The times of the packets, if these are all that the container has. The
            frames are shown at the same times in another order.
        second: The units of time in a second.
    """
    times: list[int | None] = []
    durations: list[int] = []
    for frame in frames:
        times.append(frame.pts)
        durations.append(frame.duration or second // 25)

    if decoding_times:
        shown = sorted(decoding_times)[-len(times) :] if times else []
        return np.array(shown, dtype=np.int64)
    return make_ascending(fill_missing(times, durations), durations, second * _NEW_START_S)


def fill_missing(times: Sequence[int | None], durations: Sequence[int]) -> list[int]:
    """Give frames without a time the time that follows from their neighbours' durations."""
    first = next((i for i, time in enumerate(times) if time is not None), None)
    if first is None:
        return np.cumsum([0, *durations[:-1]])[: len(times)].tolist()

    filled: list[int] = []
    for i, time in enumerate(times):
        if time is not None:
            filled.append(time)
        elif i < first:
            filled.append((times[first] or 0) - sum(durations[i:first]))
        else:
            filled.append(filled[-1] + durations[i - 1])
    return filled


def make_ascending(times: Sequence[int], durations: Sequence[int], new_start: float) -> np.ndarray:
    """Return times (F,) int64 that never go back."""
    ascending: list[int] = []
    shift = 0
    for i, time in enumerate(times):
        if ascending and time + shift < ascending[-1] - new_start:
            shift = ascending[-1] + durations[i - 1] - time
        ascending.append(max(time + shift, ascending[-1]) if ascending else time)
    return np.array(ascending, dtype=np.int64)
