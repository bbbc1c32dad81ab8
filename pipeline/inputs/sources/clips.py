"""Source `clips`: clips of all videos below a folder, for task=video."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from pipeline.core.recorded_inputs import RecordedSource
from pipeline.core.schema import make_carried_field
from pipeline.inputs.decoding.video_index import VideoIndex
from pipeline.inputs.video_source import (
    VideoPart,
    VideoSource,
    check_positive_setting,
    choose_frames,
)


class Clips(VideoSource):
    """Lists clips of `length` frames from each video.

    The frames are sampled at `fps` frames per second of the video; null takes all frames. A new
    clip begins after every `stride` sampled frames; null begins it where the previous clip ends.
    The last clip ends with the video, so that no part is left out. In a video shorter than one
    clip, the last frame is repeated.
    """

    columns = (
        make_carried_field("video", pa.string()),  # path below the input folder
        make_carried_field("clip", pa.int64()),  # its number in the video, from 0
        # seconds from the video's first frame to the clip's first frame
        make_carried_field("start_s", pa.float64()),
        # seconds to the frame after the clip's last frame, or to the end of the video
        make_carried_field("end_s", pa.float64()),
    )
    time_column = "start_s"

    def __init__(self, root: str, length: int, fps: float | None, stride: int | None) -> None:
        super().__init__(root)
        self.length = self.clip_length = check_positive_setting("source.length", length or 0, True)
        self.fps = check_positive_setting("source.fps", fps, False)
        self.stride = check_positive_setting("source.stride", stride, True) or length
        self.identity = f"clips:{self.listing.identity}"

    def choose_parts(self, index: VideoIndex) -> Sequence[VideoPart]:
        sampled = choose_frames(index, self.fps)
        seconds = np.append(index.times[sampled], index.end)
        last = max(0, len(sampled) - self.length)
        clips = []
        for number, start in enumerate([*range(0, last, self.stride), last]):
            frames = sampled[start : start + self.length].tolist()
            start_s, end_s = float(seconds[start]), float(seconds[start + len(frames)])
            padded = (*frames, *[frames[-1]] * (self.length - len(frames)))
            clips.append(VideoPart(number, padded, (number, start_s, end_s)))
        return clips

    @classmethod
    def reopen(cls, recorded: RecordedSource) -> None:
        """Return None, because a clip is not an image."""
        return None
