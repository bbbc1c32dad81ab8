"""Clips of every video under a folder, for task=video."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from pipeline.core.schema import make_carried_field
from pipeline.inputs.decoding.video import VideoIndex
from pipeline.inputs.video_source import (
    VideoPart,
    VideoSource,
    check_positive_setting,
    choose_frames,
)


class Clips(VideoSource):
    """Clips of `length` frames, taken at `fps` frames a second of the video (null: all its frames); a new one begins every
    `stride` of these frames (null: where the one before ends). The last clip ends with the video, so no second is left out;
    in a video shorter than one clip the last frame is repeated."""

    own_columns = (
        make_carried_field("video", pa.string()),  # path below the input folder
        make_carried_field("clip", pa.int64()),  # its number in the video, from 0
        make_carried_field(
            "start_s", pa.float64()
        ),  # seconds from the video's first frame to the clip's
        make_carried_field(
            "end_s", pa.float64()
        ),  # ... to the frame after its last, or to the end of the video
    )

    def __init__(self, root: str, length: int, fps: float | None, stride: int | None) -> None:
        super().__init__(root)
        self.length = self.clip_length = check_positive_setting("source.length", length or 0, True)
        self.fps = check_positive_setting("source.fps", fps, False)
        self.stride = check_positive_setting("source.stride", stride, True) or length
        self.identity = f"clips:{self.listing.identity}"

    def choose_parts(self, index: VideoIndex) -> Sequence[VideoPart]:
        taken, length = choose_frames(index, self.fps), self.length
        seconds = np.append(index.times[taken], index.end)
        last = max(0, len(taken) - length)
        starts = [*range(0, last, self.stride), last]
        clips = []
        for number, start in enumerate(starts):
            frames = taken[start : start + length].tolist()
            begin_and_end = (float(seconds[start]), float(seconds[start + len(frames)]))
            padded = (*frames, *[frames[-1]] * (length - len(frames)))
            clips.append(VideoPart(number, padded, (number, *begin_and_end)))
        return clips
