"""Sources whose inputs are image files: what is common to all of them is how bytes become pixels."""

import io
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import BinaryIO

import pyarrow as pa
from torch import Tensor

from pipeline.core.protocols import TimeStage
from pipeline.core.types import Entry, InputError, Status
from pipeline.inputs.decoding.image import (
    IMAGE_DECODER,
    check_file_size,
    decode_image,
    read_image_header,
)
from pipeline.storage.prefetch import Prefetcher


class ImageSource(ABC):
    """Base of a source: it adds `identity`, `entries` and `open`."""

    decoder: str = IMAGE_DECODER
    # set where files are decoded many at a time, on another device (`gpu_jpeg.py`): (files, max_pixels) -> what each holds
    decode_many: Callable[[Sequence[bytes], int], list[Tensor | InputError]] | None = None
    prefetcher: Prefetcher | None = (
        None  # set where files are far away: they are fetched whole, before they are asked for
    )
    columns: Sequence[pa.Field] = ()
    clip_length: int | None = None

    @abstractmethod
    def open(self, entry: Entry) -> BinaryIO:
        """The input's bytes. Raises InputError and OSError."""

    def read_size_hw(self, entry: Entry, max_pixels: int) -> tuple[int, int]:
        with self._opened(entry) as file:
            return read_image_header(file, max_pixels).size_hw

    def group_key(self, entry: Entry) -> Hashable:
        return entry.key if self.decode_many is None else None

    def read(
        self, entries: Sequence[Entry], max_pixels: int, stage: TimeStage
    ) -> Iterator[Tensor | InputError | OSError]:
        if self.decode_many is None:
            yield from (self._read_one(entry, max_pixels, stage) for entry in entries)
            return
        files = [self._bytes_of(entry, max_pixels, stage) for entry in entries]
        with stage("decode"):
            decoded = iter(
                self.decode_many([data for data in files if isinstance(data, bytes)], max_pixels)
            )
        yield from (next(decoded) if isinstance(data, bytes) else data for data in files)

    def _read_one(
        self, entry: Entry, max_pixels: int, stage: TimeStage
    ) -> Tensor | InputError | OSError:
        data = self._bytes_of(entry, max_pixels, stage)
        if not isinstance(data, bytes):
            return data
        try:
            with stage("decode"):
                return decode_image(data, max_pixels)
        except InputError as error:
            return error

    def _bytes_of(
        self, entry: Entry, max_pixels: int, stage: TimeStage
    ) -> bytes | InputError | OSError:
        try:
            with stage("read"), self._opened(entry) as file:
                if entry.size not in (None, size := file.seek(0, io.SEEK_END)):
                    return InputError(
                        Status.CHANGED, f"the plan lists {entry.size} bytes, the file has {size}"
                    )
                check_file_size(file, max_pixels)  # again: the header may not have been read
                return file.read()
        except (InputError, OSError) as error:
            return error

    def _opened(self, entry: Entry) -> BinaryIO:
        return (
            self.open(entry)
            if self.prefetcher is None
            else io.BytesIO(self.prefetcher.fetch(entry))
        )

    def prefetch(self, entries: Sequence[Entry], seconds: float) -> None:
        if self.prefetcher is not None:
            self.prefetcher.enqueue(entries, seconds)

    def release(self, entries: Sequence[Entry]) -> None:
        if self.prefetcher is not None:
            self.prefetcher.release(entries)

    def close(self) -> None:
        """No file stays open between reads."""
        if self.prefetcher is not None:
            self.prefetcher.close()
