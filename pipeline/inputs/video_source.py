"""Sources whose inputs are parts of video files: frames or clips. What is common to them is how a part is found and read."""

from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from threading import Lock
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from pipeline.core.errors import ConfigError
from pipeline.core.protocols import TimeStage
from pipeline.core.types import Entry, InputError, Status
from pipeline.inputs.decoding.video import (
    VIDEO_DECODER,
    VIDEO_SUFFIXES,
    FrameReader,
    VideoIndex,
    read_video_index,
)
from pipeline.storage.listing import open_listing

_OPEN = 4  # videos that are kept open, so that the next frames need no seeking


@dataclass(frozen=True)
class VideoPart:
    """A part of a video. `number` goes into its key, `carried` into its rows."""

    number: int
    frames: tuple[int, ...]
    carried: tuple[Any, ...]


class VideoSource(ABC):
    """Base of a source: it adds `identity`, `own_columns`, `clip_length` and `samples`.

    A part's key is `<the video's path>/<number>`. A video of which no part can be had, or which ends before it should,
    has a row of its own with the key `<the video's path>/`; the parts that are there have theirs besides.
    """

    decoder = VIDEO_DECODER
    identity: str
    clip_length: int | None
    own_columns: Sequence[pa.Field]  # the first column is the video's path

    def __init__(self, root: str) -> None:
        self.listing = open_listing(root, VIDEO_SUFFIXES, "videos", below=True)
        self._idle: list[tuple[Entry, FrameReader]] = []  # the last one used is the last
        self._lock = Lock()
        self._samples_of = lru_cache(maxsize=64)(self._read_samples)

    @abstractmethod
    def choose_parts(self, index: VideoIndex) -> Sequence[VideoPart]:
        """The parts of a video, in order."""

    @property
    def columns(self) -> Sequence[pa.Field]:
        return self.own_columns

    def entries(self) -> Iterator[Entry]:
        for video in self.listing.entries():
            try:
                index, samples = self._samples_of(video)
            except (InputError, OSError):  # said again, in its row, when its turn comes
                yield self._entry(video, "", ())
                continue
            if index.incomplete:
                yield self._entry(video, "", ())
            for number, sample in samples.items():
                yield self._entry(video, f"{number:08d}", sample.carried)

    def read_size_hw(self, entry: Entry, max_pixels: int) -> tuple[int, int]:
        video, number = _split(entry)
        index, _ = self._samples_of(video)
        height, width = index.size_hw
        if number is None and index.incomplete:
            raise InputError(Status.TRUNCATED, index.incomplete, index.size_hw)
        if number is None:
            raise InputError(
                Status.CHANGED, "the video could not be read when the plan was made", index.size_hw
            )
        if height * width > max_pixels:
            said = f"{width}x{height} is {height * width} pixels, more than max_pixels={max_pixels}"
            raise InputError(Status.TOO_LARGE, said, index.size_hw)
        return index.size_hw

    def group_key(self, entry: Entry) -> Hashable:
        return _split(entry)[0].key

    def read(
        self, entries: Sequence[Entry], max_pixels: int, stage: TimeStage
    ) -> Iterator[Tensor | InputError | OSError]:
        """A video is read and decoded in one go, so its time is `decode`."""
        for entry in entries:
            try:
                with stage("decode"):
                    pixels = self._decode(entry)
            except (InputError, OSError) as error:
                yield error
            else:
                yield pixels

    def prefetch(self, entries: Sequence[Entry], seconds: float) -> None:  # noqa: B027 - not a duty
        """Videos are read where they are: there is nothing to make ready."""

    def release(self, entries: Sequence[Entry]) -> None:  # noqa: B027
        """Videos stay open for the next frames."""

    def close(self) -> None:
        with self._lock:
            for _, frames in self._idle:
                frames.close()
            self._idle.clear()

    def _decode(self, entry: Entry) -> Tensor:
        video, number = _split(entry)
        index, samples = self._samples_of(video)
        if number not in samples:
            raise InputError(Status.CHANGED, "this part of the video is not there any more")
        wanted = samples[number].frames
        with self._frames(video, index, wanted[0]) as frames:
            if self.clip_length is None:
                return frames.frame(wanted[0])
            return torch.stack([frames.frame(i) for i in wanted])  # (T, 3, H, W)

    @contextmanager
    def _frames(self, video: Entry, index: VideoIndex, first: int) -> Iterator[FrameReader]:
        """The video opened; for this thread alone until it is given back. Of those that are idle, the one that need not go
        back and has the least way to go."""
        with self._lock:
            idle = [one for one in self._idle if one[0] == video and one[1].at <= first]
            found = max(idle, key=lambda one: one[1].at, default=None)
            if found:
                self._idle.remove(found)
        frames = found[1] if found else FrameReader(self._open(video), index)
        try:
            yield frames
        finally:
            with self._lock:
                self._idle.append((video, frames))
                surplus = self._idle[:-_OPEN]
                del self._idle[:-_OPEN]
            for _, old in surplus:
                old.close()

    def _open(self, video: Entry) -> BinaryIO:
        file = self.listing.open(video.key)
        size = file.seek(0, 2)
        if size != video.size:
            file.close()
            raise InputError(
                Status.CHANGED, f"the plan lists {video.size} bytes, the file has {size}"
            )
        return file

    def _read_samples(self, video: Entry) -> tuple[VideoIndex, dict[int, VideoPart]]:
        with self._open(video) as file:
            index = read_video_index(file)
        return index, {sample.number: sample for sample in self.choose_parts(index)}

    def _entry(self, video: Entry, number: str, carried: tuple[Any, ...]) -> Entry:
        values = (video.key, *(carried or (None,) * (len(self.own_columns) - 1)))
        return Entry(f"{video.key}/{number}", video.size, video.mtime_ns, values)


def _split(entry: Entry) -> tuple[Entry, int | None]:
    """The video as it was listed, and the number of its part; None for the video as a whole."""
    key, _, number = entry.key.rpartition("/")
    return Entry(key, entry.size, entry.mtime_ns), int(number) if number else None


def choose_frames(index: VideoIndex, fps: float | None) -> np.ndarray:
    """Frame numbers (N,): all of them, or those that are shown at 0, 1/fps, 2/fps ... seconds: one may come twice where the
    video has fewer."""
    if fps is None:
        return np.arange(len(index))
    ticks = np.arange(int(np.floor(index.end * fps - 1e-6)) + 1) / fps
    return (
        np.searchsorted(index.times, ticks + 1e-6, side="right") - 1
    )  # a tick that meets a frame's time means that frame


def check_positive_setting(key: str, value: Any, whole: bool) -> Any:
    """Raise ConfigError unless the value is null or a number above 0."""
    kinds: Any = int if whole else (int, float)
    if value is None or (isinstance(value, kinds) and not isinstance(value, bool) and value > 0):
        return value
    raise ConfigError(f"{key}={value}: expected a {'whole ' if whole else ''}number above 0.")
