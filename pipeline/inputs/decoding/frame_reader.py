"""Decode the frames of a video by number."""

from itertools import islice
from typing import BinaryIO

import av
import numpy as np
import torch
from av.video.reformatter import VideoReformatter
from torch import Tensor

from pipeline.core.types import InputError, Status
from pipeline.inputs.decoding.video_container import (
    VIDEO_ERRORS,
    decode_frames,
    describe_error,
    diagnose_video,
    find_video_stream,
    open_container,
)
from pipeline.inputs.decoding.video_index import Access, VideoIndex

# Seeking takes as long as decoding this many frames, because the decoder's threads start again.
_SEEK_COST_FRAMES = 16


class FrameReader:
    """Decodes frames of an open video. Reading them in ascending order is fastest."""

    def __init__(self, file: BinaryIO, index: VideoIndex) -> None:
        """Open the video.

        Args:
            file: The video file. The reader closes it.
            index: The index of this file.

        Raises:
            InputError: The file cannot be opened as a video. The file is closed.
        """
        self.file, self.index = file, index
        self.last_number = -1  # number of the frame that was returned last; -1 before the first
        self._last_frame: Tensor | None = None
        # The reformatter is kept, because building its tables takes longer than a conversion.
        self._reformatter = VideoReformatter()
        try:
            self._start()
        except VIDEO_ERRORS as error:
            refusal = diagnose_video(file, error)
            file.close()
            raise refusal from None

    def read_frame(self, number: int) -> Tensor:
        """Return a frame as (3, H, W) uint8 RGB, upright. Raises InputError."""
        if number == self.last_number and self._last_frame is not None:
            return self._last_frame

        self._last_frame = None
        try:
            frame = self._find_frame(number)
        except VIDEO_ERRORS as error:
            self._is_lost = True
            raise InputError(
                Status.CORRUPT,
                f"frame {number} cannot be decoded: {describe_error(error)}",
                self.index.size_hw,
            ) from None
        if frame is None or frame.is_corrupt:
            raise InputError(
                Status.CORRUPT, f"frame {number} is damaged or missing", self.index.size_hw
            )

        stored = self._reformatter.reformat(frame, format="rgb24").to_ndarray()  # (H, W, 3)
        upright = self.index.orientation.turn(stored).transpose(2, 0, 1)  # (3, H, W)
        # Copy with NumPy. PyTorch would start its threads for these few bytes, which takes twice as
        # long.
        pixels = torch.from_numpy(np.ascontiguousarray(upright))
        self.last_number, self._last_frame = number, pixels
        return pixels

    def close(self) -> None:
        self.container.close()
        self.file.close()

    def _start(self) -> None:
        """Open the container and place the decoder before the first frame."""
        self.container = open_container(self.file)
        self.stream = find_video_stream(self.container)
        self.stream.thread_type = "AUTO"  # decode frames in parallel; the pixels are the same
        self._decoded = decode_frames(self.container, self.stream)
        self._n_decoded = 0  # since the first frame; for Access.ORDER
        self._is_lost = False  # True: the decoder's position is not known

    def _find_frame(self, number: int) -> av.VideoFrame | None:
        """Decode up to this frame and return it; None if it is missing."""
        if self.index.access is not Access.SEEK:
            return self._find_from_start(number)

        pts = int(self.index.pts[number])
        earlier = self.index.keyframes[self.index.keyframes <= pts]
        # A file may begin in the middle of a group of frames, without a key frame.
        key_pts = int(earlier[-1]) if len(earlier) else int(self.index.pts[0])
        n_skipped = np.searchsorted(self.index.pts, key_pts) - self.last_number

        must_seek = self._is_lost or number <= self.last_number or n_skipped > _SEEK_COST_FRAMES
        if must_seek:
            self.container.seek(key_pts, stream=self.stream)
            self._decoded = decode_frames(self.container, self.stream)
        frame, is_first = self._decode_until(pts)

        if must_seek and (frame is None or (is_first and frame.pts != pts)):
            # In MPEG-TS, seeking may end behind the frame. Then decode from the beginning.
            self.container.close()
            self._start()
            frame, _ = self._decode_until(pts)
        self._is_lost = frame is None or frame.pts != pts
        return None if self._is_lost else frame

    def _find_from_start(self, number: int) -> av.VideoFrame | None:
        """Find a frame without seeking: decode on, or begin again if it was passed."""
        if self._is_lost or number <= self.last_number:
            self.container.close()
            self._start()
        if self.index.access is Access.TIME:
            pts = int(self.index.pts[number])
            frame, _ = self._decode_until(pts)
            self._is_lost = frame is None or frame.pts != pts
        else:
            skipped = islice(self._decoded, number - self._n_decoded, None)
            frame = next(skipped, None)
            self._n_decoded = number + 1
            self._is_lost = frame is None
        return None if self._is_lost else frame

    def _decode_until(self, pts: int) -> tuple[av.VideoFrame | None, bool]:
        """Decode until a frame is shown at `pts` or later.

        Returns:
            The frame, or None at the end of the video; and whether it is the first frame decoded.
        """
        for i, frame in enumerate(self._decoded):
            if frame.pts is not None and frame.pts >= pts:
                return frame, i == 0
        return None, False
