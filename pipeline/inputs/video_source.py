"""Base class of sources whose inputs are parts of videos: frames or clips."""

from __future__ import annotations  # annotations must not import torch: readers of runs lack it

from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from threading import Lock
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from pipeline.core.errors import ConfigError, detach_error
from pipeline.core.recorded_inputs import ImageReader, InputLocations, RecordedSource
from pipeline.core.types import Entry, InputError, Status
from pipeline.inputs.decoding.video_container import VIDEO_DECODER, VIDEO_SUFFIXES
from pipeline.inputs.decoding.video_index import VideoIndex, read_video_index
from pipeline.storage.listing import open_listing

if TYPE_CHECKING:
    import pyarrow as pa
    from torch import Tensor

    from pipeline.core.protocols import TimeStage
    from pipeline.inputs.decoding.frame_reader import FrameReader

_MAX_IDLE_VIDEOS = 4  # videos that stay open, so that reading their next frames needs no seeking
_TIME_TOLERANCE = 1e-6  # seconds; a sampling time this close before a frame selects that frame


@dataclass(frozen=True)
class VideoPart:
    """A frame or a clip.

    `number` is the last part of its key. `carried` has the values of its columns after the video's
    path.
    """

    number: int
    frames: tuple[int, ...]
    carried: tuple[Any, ...]


class VideoSource(ABC):
    """A source of parts of videos.

    A subclass sets `identity`, `clip_length`, `columns` and `time_column`, and adds `choose_parts`
    and `reopen`.

    The key of a part is `<path of the video>/<number>`. A video that has no readable part or ends
    too early is an additional input with the key `<path of the video>/`. Its readable parts are
    inputs as usual.
    """

    decoder = VIDEO_DECODER
    has_image_files = False
    hint_if_empty = ""
    identity: str
    clip_length: int | None
    columns: Sequence[pa.Field]  # the first one is the video's path
    time_column: str  # name of the column with the seconds at which a part begins

    def __init__(self, root: str) -> None:
        self.listing = open_listing(root, VIDEO_SUFFIXES, "videos", below=True)
        self.passed_over = self.listing.passed_over
        self._idle: list[tuple[Entry, FrameReader]] = []  # in order of use, the most recent last
        self._lock = Lock()
        self._read_parts = lru_cache(maxsize=64)(self._read_parts_of)

    @abstractmethod
    def choose_parts(self, index: VideoIndex) -> Sequence[VideoPart]:
        """Return the parts of a video, in order."""

    @classmethod
    def locate(cls, recorded: RecordedSource) -> InputLocations:
        """Return where the videos of a finished run are. A key begins with the path of a video."""
        return InputLocations(
            recorded.folder,
            keys_are_files=True,
            file_column=cls.columns[0].name,
            time_column=cls.time_column,
        )

    @classmethod
    @abstractmethod
    def reopen(cls, recorded: RecordedSource) -> ImageReader | None:
        """Return a reader of a finished run's images; None if its inputs are clips."""

    def entries(self) -> Iterator[Entry]:
        """Yield the parts of all videos, sorted by key."""
        for video in self.listing.entries():
            try:
                index, parts = self._read_parts(video)
            except (InputError, OSError):  # reading this entry will raise it again
                yield self._make_entry(video, "", ())
                continue
            if index.incomplete:
                yield self._make_entry(video, "", ())
            for number, part in parts.items():
                yield self._make_entry(video, f"{number:08d}", part.carried)

    def read_size_hw(self, entry: Entry, max_pixels: int) -> tuple[int, int]:
        """Return the size of the upright frames in pixels. Raises InputError and OSError."""
        video, number = _split_entry(entry)
        index, _ = self._read_parts(video)
        height, width = index.size_hw
        if number is None and index.incomplete:
            raise InputError(Status.TRUNCATED, index.incomplete, index.size_hw)
        if number is None:
            raise InputError(
                Status.CHANGED, "the video could not be read when the plan was made", index.size_hw
            )
        if height * width > max_pixels:
            raise InputError(
                Status.TOO_LARGE,
                f"{width}x{height} is {height * width} pixels, more than max_pixels={max_pixels}",
                index.size_hw,
            )
        return index.size_hw

    def group_key(self, entry: Entry) -> Hashable:
        """Return the key of the video, because one thread decodes its parts fastest, in order."""
        return _split_entry(entry)[0].key

    def read(
        self, entries: Sequence[Entry], max_pixels: int, stage: TimeStage
    ) -> Iterator[Tensor | InputError | OSError]:
        """Yield the pixels or the error of each part.

        Reading is timed together with decoding, as the stage `decode`.
        """
        for entry in entries:
            try:
                with stage("decode"):
                    pixels = self._decode(entry)
            except (InputError, OSError) as error:
                yield detach_error(error)
            else:
                yield pixels

    def prefetch(self, entries: Sequence[Entry], seconds: float) -> None:  # noqa: B027 - optional
        """Do nothing: videos are read where they are."""

    def release(self, entries: Sequence[Entry]) -> None:  # noqa: B027 - optional
        """Do nothing: videos stay open for the next frames."""

    def close(self) -> None:
        """Close the idle videos."""
        with self._lock:
            for _, frames in self._idle:
                frames.close()
            self._idle.clear()

    def _decode(self, entry: Entry) -> Tensor:
        """Decode a frame to (3, H, W), or a clip to (T, 3, H, W), uint8 RGB, upright."""
        import torch

        video, number = _split_entry(entry)
        index, parts = self._read_parts(video)
        if number not in parts:
            raise InputError(Status.CHANGED, "this part of the video is not there any more")
        numbers = parts[number].frames
        with self._borrow_video(video, index, numbers[0]) as frames:
            if self.clip_length is None:
                return frames.read_frame(numbers[0])
            return torch.stack([frames.read_frame(i) for i in numbers])  # (T, 3, H, W)

    @contextmanager
    def _borrow_video(self, video: Entry, index: VideoIndex, first: int) -> Iterator[FrameReader]:
        """Yield an open reader of a video that no other thread uses inside the `with` block.

        An idle reader is reused if it is not behind the frame `first`. Among several, the reader
        nearest to this frame is chosen.
        """
        from pipeline.inputs.decoding.frame_reader import FrameReader  # late: it imports torch

        with self._lock:
            usable = [
                idle for idle in self._idle if idle[0] == video and idle[1].last_number <= first
            ]
            nearest = max(usable, key=lambda idle: idle[1].last_number, default=None)
            if nearest:
                self._idle.remove(nearest)
        frames = nearest[1] if nearest else FrameReader(self._open_video(video), index)

        try:
            yield frames
        finally:
            with self._lock:
                self._idle.append((video, frames))
                surplus = self._idle[:-_MAX_IDLE_VIDEOS]
                del self._idle[:-_MAX_IDLE_VIDEOS]
            for _, old in surplus:
                old.close()

    def _open_video(self, video: Entry) -> BinaryIO:
        file = self.listing.open(video.key)
        size = file.seek(0, 2)
        if size != video.size:
            file.close()
            raise InputError(
                Status.CHANGED, f"the plan lists {video.size} bytes, the file has {size}"
            )
        return file

    def _read_parts_of(self, video: Entry) -> tuple[VideoIndex, dict[int, VideoPart]]:
        """Return the index of a video, and a dict from numbers to its parts."""
        with self._open_video(video) as file:
            index = read_video_index(file)
        return index, {part.number: part for part in self.choose_parts(index)}

    def _make_entry(self, video: Entry, number: str, carried: tuple[Any, ...]) -> Entry:
        """Return the entry of a part, or of the whole video if `number` and `carried` are empty."""
        values = (video.key, *(carried or (None,) * (len(self.columns) - 1)))
        return Entry(f"{video.key}/{number}", video.size, video.mtime_ns, values)


def _split_entry(entry: Entry) -> tuple[Entry, int | None]:
    """Return the entry of the video, and the number of the part; None for the whole video."""
    key, _, number = entry.key.rpartition("/")
    return Entry(key, entry.size, entry.mtime_ns), int(number) if number else None


def choose_frames(index: VideoIndex, fps: float | None) -> np.ndarray:
    """Return (N,) numbers of the frames that are shown at 0, 1/fps, 2/fps ... seconds.

    If `fps` is None, all frames are returned. A frame is repeated where the video has fewer than
    `fps` frames per second.
    """
    if fps is None:
        return np.arange(len(index))
    n_ticks = int(np.floor(index.end * fps - _TIME_TOLERANCE)) + 1
    ticks = np.arange(n_ticks) / fps
    return np.searchsorted(index.times, ticks + _TIME_TOLERANCE, side="right") - 1


def check_positive_setting(key: str, value: Any, whole: bool) -> Any:
    """Return the value of a setting. Raises ConfigError unless it is null or a number above 0."""
    types: Any = int if whole else (int, float)
    if value is None or (isinstance(value, types) and not isinstance(value, bool) and value > 0):
        return value
    raise ConfigError(f"{key}={value}: expected a {'whole ' if whole else ''}number above 0.")
