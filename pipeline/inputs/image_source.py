"""Base class of sources whose inputs are image files. It decodes the files to pixels."""

from __future__ import annotations  # annotations must not import torch: readers of runs lack it

import io
import logging
from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterator, Sequence
from typing import TYPE_CHECKING, BinaryIO

from pipeline.core.errors import detach_error
from pipeline.core.passed_over import PassedOver
from pipeline.core.recorded_inputs import ImageReader, InputLocations, RecordedSource
from pipeline.core.types import Entry, InputError, Status
from pipeline.inputs.decoding.header import check_file_size, read_image_header
from pipeline.inputs.decoding.optional_formats import MissingPackage

if TYPE_CHECKING:
    import pyarrow as pa
    from torch import Tensor

    from pipeline.core.protocols import ImageDecoder, TimeStage
    from pipeline.storage.prefetch import Prefetcher


log = logging.getLogger(__name__)


class ImageSource(ABC):
    """A source of image files. A subclass sets `identity` and adds `entries`, `open` and `reopen`.

    Files in a store are read through `prefetcher`, which fetches each of them once.
    """

    identity: str
    columns: Sequence[pa.Field] = ()
    clip_length: int | None = None
    has_image_files = True
    hint_if_empty = ""

    def __init__(
        self, image_decoder: ImageDecoder | None = None, prefetcher: Prefetcher | None = None
    ) -> None:
        """Make a source that decodes on the CPU unless another decoder is given."""
        if image_decoder is None:
            from pipeline.inputs.decoding.image import CpuImageDecoder  # late: it imports torch

            image_decoder = CpuImageDecoder()
        self.image_decoder, self.prefetcher = image_decoder, prefetcher
        # message -> keys of the files; dict and set are changed in one step each by any thread
        self._missing: dict[str, set[str]] = {}
        self.passed_over = PassedOver()  # a source that lists files counts in it

    @abstractmethod
    def entries(self) -> Iterator[Entry]:
        """Yield every input once, sorted by key, without reading pixels."""

    @abstractmethod
    def open(self, entry: Entry) -> BinaryIO:
        """Open the input's bytes as a seekable file. Raises InputError and OSError."""

    @classmethod
    def locate(cls, recorded: RecordedSource) -> InputLocations:
        """Return where the inputs of a finished run are.

        This default is for sources whose inputs are not files of their own, so they have no links.
        """
        return InputLocations(recorded.folder)

    @classmethod
    @abstractmethod
    def reopen(cls, recorded: RecordedSource) -> ImageReader | None:
        """Return a reader of a finished run's images.

        Raises:
            ConfigError: The input no longer exists.
        """

    @property
    def decoder(self) -> str:
        """The name of the image decoder, which is part of the fingerprint."""
        return self.image_decoder.name

    def read_size_hw(self, entry: Entry, max_pixels: int) -> tuple[int, int]:
        """Return the size of the upright image in pixels, from the header.

        Raises InputError and OSError.
        """
        with self._open_fetched(entry) as file:
            try:
                return read_image_header(file, max_pixels).size_hw
            except MissingPackage as error:
                self._missing.setdefault(str(error), set()).add(entry.key)
                raise

    def group_key(self, entry: Entry) -> Hashable:
        """Return the same key for all entries if the decoder is faster in batches."""
        return None if self.image_decoder.is_batched else entry.key

    def read(
        self, entries: Sequence[Entry], max_pixels: int, stage: TimeStage
    ) -> Iterator[Tensor | InputError | OSError]:
        """Yield the pixels of each entry, (3, H, W) uint8 RGB, upright; or its error."""
        size = len(entries) if self.image_decoder.is_batched else 1
        for first in range(0, len(entries), max(1, size)):
            yield from self._read_batch(entries[first : first + size], max_pixels, stage)

    def _read_batch(
        self, entries: Sequence[Entry], max_pixels: int, stage: TimeStage
    ) -> Iterator[Tensor | InputError | OSError]:
        """Read the files of all entries, and decode them in one call."""
        contents = [self._read_bytes(entry, max_pixels, stage) for entry in entries]
        files = [data for data in contents if isinstance(data, bytes)]
        decoded: list[Tensor | InputError] = []
        if files:
            with stage("decode"):
                decoded.extend(self.image_decoder.decode_many(files, max_pixels))
        is_decoded = [isinstance(data, bytes) for data in contents]
        errors = [data for data in contents if not isinstance(data, bytes)]
        del contents, files

        # Each list gives its values away, so that no pixels stay in memory after they are used.
        decoded.reverse()
        errors.reverse()
        for is_image in is_decoded:
            yield decoded.pop() if is_image else errors.pop()

    def _read_bytes(
        self, entry: Entry, max_pixels: int, stage: TimeStage
    ) -> bytes | InputError | OSError:
        """Return the bytes of the whole file, or the error of reading it."""
        try:
            with stage("read"), self._open_fetched(entry) as file:
                size = file.seek(0, io.SEEK_END)
                if entry.size not in (None, size):
                    return InputError(
                        Status.CHANGED, f"the plan lists {entry.size} bytes, the file has {size}"
                    )
                check_file_size(file, max_pixels)  # the size may not have been checked before
                return file.read()
        except (InputError, OSError) as error:
            return detach_error(error)

    def _open_fetched(self, entry: Entry) -> BinaryIO:
        return (
            self.open(entry)
            if self.prefetcher is None
            else io.BytesIO(self.prefetcher.fetch(entry))
        )

    def prefetch(self, entries: Sequence[Entry], seconds: float) -> None:
        """Begin to fetch files that are in a store."""
        if self.prefetcher is not None:
            self.prefetcher.enqueue(entries, seconds)

    def release(self, entries: Sequence[Entry]) -> None:
        """Forget the fetched files."""
        if self.prefetcher is not None:
            self.prefetcher.release(entries)

    def close(self) -> None:
        """Stop fetching, and log what was noticed. Local files do not stay open between reads."""
        self.image_decoder.log_notes()
        for message, keys in self._missing.items():
            log.warning("%d files are unsupported here: %s.", len(keys), message)
        self._missing.clear()
        if self.prefetcher is not None:
            self.prefetcher.close()
