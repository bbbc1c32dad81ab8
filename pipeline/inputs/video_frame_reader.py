"""Read the video frames of a finished run again."""

from __future__ import annotations  # annotations must not import torch: readers of runs lack it

from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from pipeline.core.types import Entry, InputError, Status
from pipeline.storage.listing import open_listing

if TYPE_CHECKING:
    from torch import Tensor

    from pipeline.inputs.decoding.frame_reader import FrameReader


@dataclass(frozen=True)
class _OpenVideo:
    key: str
    n_frames: int
    frames: FrameReader


class VideoFrameReader:
    """Reads the frames whose numbers are at the end of their keys. Keeps the last video open."""

    reads_in_order = True

    def __init__(self, folder: str) -> None:
        """Prepare to read. Raises ConfigError if the folder no longer exists."""
        self.listing = open_listing(folder, (), "videos")
        self._video: _OpenVideo | None = None

    def open(self, entry: Entry) -> BinaryIO:
        """Raise InputError, because a frame is not a file."""
        raise InputError(Status.NOT_A_FILE, "a frame of a video is no file of its own")

    def read(self, entry: Entry, max_pixels: int) -> Tensor:
        """Decode a frame to (3, H, W) uint8 RGB, upright. Raises InputError and OSError."""
        key, _, number = entry.key.rpartition("/")
        if not number.isdecimal():
            raise InputError(Status.UNREADABLE, "its name has no number of a frame; no run made it")

        video = self._open_video(key, entry.size)
        if int(number) >= video.n_frames:
            raise InputError(Status.CHANGED, "this frame of the video is not there any more")
        return video.frames.read_frame(int(number))

    def _open_video(self, key: str, size: int | None) -> _OpenVideo:
        from pipeline.inputs.decoding.frame_reader import FrameReader  # late: it imports torch
        from pipeline.inputs.decoding.video_index import read_video_index

        if self._video is not None and self._video.key == key:
            return self._video
        self.close()
        file = self.listing.open(key)
        if file.seek(0, 2) != size:
            file.close()
            raise InputError(Status.CHANGED, f"the plan lists {size} bytes, the video has others")
        index = read_video_index(file)
        self._video = _OpenVideo(key, len(index), FrameReader(file, index))
        return self._video

    def close(self) -> None:
        if self._video is not None:
            self._video.frames.close()
            self._video = None
