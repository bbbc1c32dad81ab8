"""Frames of every video under a folder, as images."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from pipeline.core.errors import ConfigError
from pipeline.core.schema import make_carried_field
from pipeline.inputs.decoding.video import VideoIndex
from pipeline.inputs.video_source import (
    VideoPart,
    VideoSource,
    check_positive_setting,
    choose_frames,
)


class Video(VideoSource):
    """`every`: the frames 0, N, 2N ...; `fps`: those that are shown at 0, 1/fps, 2/fps ... seconds, each once. Times are the
    frames' own, from the first frame, so a variable frame rate does no harm."""

    own_columns = (
        make_carried_field("video", pa.string()),  # path below the input folder
        make_carried_field("frame", pa.int64()),  # its number in the video, from 0
        make_carried_field("time_s", pa.float64()),  # seconds from the first frame
    )
    clip_length = None

    def __init__(self, root: str, every: int | None, fps: float | None) -> None:
        super().__init__(root)
        self.every, self.fps = (
            check_positive_setting("source.every", every, True),
            check_positive_setting("source.fps", fps, False),
        )
        if every and fps:
            raise ConfigError(f"source.every={every} and source.fps={fps}: say one of them.")
        self.identity = f"video:{self.listing.identity}"

    def choose_parts(self, index: VideoIndex) -> Sequence[VideoPart]:
        at_times = np.unique(choose_frames(index, self.fps or 1.0))
        numbers = np.arange(0, len(index), self.every) if self.every else at_times
        times = index.times
        return [
            VideoPart(number, (number,), (number, float(times[number])))
            for number in numbers.tolist()
        ]
