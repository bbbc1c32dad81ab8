"""A source that repeats the readable inputs of another source, to have enough to measure."""

from collections.abc import Hashable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from itertools import islice

from torch import Tensor

from pipeline.core.errors import ConfigError
from pipeline.core.protocols import Source, TimeStage
from pipeline.core.types import Entry, InputError


class RepeatedSource:
    """A source of `n` inputs with the keys `<round>/<key>`. Unreadable inputs are left out."""

    def __init__(self, source: Source, n: int, max_pixels: int) -> None:
        self.source = source
        self.identity, self.decoder = f"repeated {source.identity}", source.decoder
        self.columns, self.clip_length = source.columns, source.clip_length
        self.has_image_files = source.has_image_files
        self.hint_if_empty = source.hint_if_empty
        self.passed_over = source.passed_over
        candidates = (
            entry for entry in source.entries() if _is_readable(source, entry, max_pixels)
        )
        readable = list(islice(candidates, n))
        if not readable:
            raise ConfigError(f"No input that can be read in {source.identity.partition(':')[2]}.")
        self.listed = [
            replace(
                readable[i % len(readable)],
                key=f"{i // len(readable):06d}/{readable[i % len(readable)].key}",
            )
            for i in range(n)
        ]

    def entries(self) -> Iterator[Entry]:
        return iter(self.listed)

    def read_size_hw(self, entry: Entry, max_pixels: int) -> tuple[int, int]:
        return self.source.read_size_hw(_restore_entry(entry), max_pixels)

    def group_key(self, entry: Entry) -> Hashable:
        return entry.key.partition("/")[0], self.source.group_key(_restore_entry(entry))

    def read(
        self, entries: Sequence[Entry], max_pixels: int, stage: TimeStage
    ) -> Iterator[Tensor | InputError | OSError]:
        return self.source.read([_restore_entry(entry) for entry in entries], max_pixels, stage)

    def prefetch(self, entries: Sequence[Entry], seconds: float) -> None:
        self.source.prefetch([_restore_entry(entry) for entry in entries], seconds)

    def release(self, entries: Sequence[Entry]) -> None:
        self.source.release([_restore_entry(entry) for entry in entries])

    def close(self) -> None:
        self.source.close()


def _restore_entry(entry: Entry) -> Entry:
    return replace(entry, key=entry.key.partition("/")[2])


def _is_readable(source: Source, entry: Entry, max_pixels: int) -> bool:
    try:
        source.read_size_hw(entry, max_pixels)
        (pixels,) = source.read([entry], max_pixels, lambda stage: nullcontext())
    except (InputError, OSError):
        return False
    return isinstance(pixels, Tensor)
