"""Sources whose inputs are image files: what is common to all of them is how bytes become pixels."""

from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterator, Sequence
from typing import BinaryIO

import pyarrow as pa
from torch import Tensor

from pipeline.decoding import DECODER, decode, read_header
from pipeline.types import Entry, InputError, Stage, Status


class ImageFiles(ABC):
    """Base of a source: it adds `identity`, `entries` and `open`."""

    decoder = DECODER
    columns: Sequence[pa.Field] = ()
    clip_length: int | None = None

    @abstractmethod
    def open(self, key: str) -> BinaryIO:
        """The input's bytes. Raises InputError and OSError."""

    def size_hw(self, entry: Entry, max_pixels: int) -> tuple[int, int]:
        with self.open(entry.key) as file:
            return read_header(file, max_pixels).size_hw

    def together(self, entry: Entry) -> Hashable:
        return entry.key

    def read(self, entries: Sequence[Entry], max_pixels: int, stage: Stage) -> Iterator[Tensor | InputError | OSError]:
        for entry in entries:
            try:
                with stage("read"), self.open(entry.key) as file:
                    data = file.read()
                if len(data) != entry.size:
                    raise InputError(Status.CHANGED, f"the plan lists {entry.size} bytes, the file has {len(data)}")
                with stage("decode"):
                    pixels = decode(data, max_pixels)
            except (InputError, OSError) as error:
                yield error
            else:
                yield pixels

    def close(self) -> None:  # noqa: B027 - nothing stays open, so most sources have nothing to add
        """No file stays open between reads."""
