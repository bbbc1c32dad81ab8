"""Source `video`: frames of all videos below a folder, as images."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from pipeline.core.errors import ConfigError
from pipeline.core.recorded_inputs import ImageReader, RecordedSource
from pipeline.core.schema import make_carried_field
from pipeline.inputs.decoding.video_index import VideoIndex
from pipeline.inputs.video_frame_reader import VideoFrameReader
from pipeline.inputs.video_source import (
    VideoPart,
    VideoSource,
    check_positive_setting,
    choose_frames,
)


class Video(VideoSource):
    """Lists frames of videos.

    With `every` = N it lists the frames 0, N, 2N ...; with `fps` the frames that are shown at 0,
    1/fps, 2/fps ... seconds; with neither one frame per second. No frame is listed twice. Times are
    read from the file and counted from the first frame, so variable frame rates are supported.
    """

    columns = (
        make_carried_field("video", pa.string()),  # path below the input folder
        make_carried_field("frame", pa.int64()),  # its number in the video, from 0
        make_carried_field("time_s", pa.float64()),  # seconds from the first frame
    )
    time_column = "time_s"
    clip_length = None

    def __init__(self, root: str, every: int | None, fps: float | None) -> None:
        super().__init__(root)
        self.every = check_positive_setting("source.every", every, True)
        self.fps = check_positive_setting("source.fps", fps, False)
        if every and fps:
            raise ConfigError(f"source.every={every} and source.fps={fps}: say one of them.")
        self.identity = f"video:{self.listing.identity}"

    def choose_parts(self, index: VideoIndex) -> Sequence[VideoPart]:
        at_ticks = np.unique(choose_frames(index, self.fps or 1.0))
        numbers = np.arange(0, len(index), self.every) if self.every else at_ticks
        times = index.times
        return [
            VideoPart(number, (number,), (number, float(times[number])))
            for number in numbers.tolist()
        ]

    @classmethod
    def reopen(cls, recorded: RecordedSource) -> ImageReader:
        return VideoFrameReader(str(recorded.folder))
