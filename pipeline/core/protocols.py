"""Contracts of the components that configuration plugs in, and what is passed to them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pyarrow as pa

from pipeline.core.types import Entry, InputError, Item, Model, ModelSpec, Outputs, Writer

if TYPE_CHECKING:
    from torch import Tensor


class Format(Protocol):
    """How a model is stored. `describe` reads names only; `load` reads weights; `details` is what else is known for people
    who choose a model, heading -> text."""

    def describe(self) -> ModelSpec: ...
    def details(self) -> Mapping[str, str]: ...
    def load(self) -> Model: ...


TimeStage = Callable[
    [str], AbstractContextManager[None]
]  # times what is done inside, under the stage's name


class Source(Protocol):
    """Where inputs come from. One whose inputs are image files derives from `images.ImageFiles` and adds but `entries` and
    `open`."""

    identity: str  # which collection it is (part of the fingerprint)
    decoder: str  # what makes pixels of its bytes, with versions
    columns: Sequence[
        pa.Field
    ]  # what its entries carry into every row, made by `table.carried_field`
    clip_length: int | None  # frames of each input; None: inputs are images

    def entries(self) -> Iterator[Entry]:
        """Every input once, streamed, sorted by key."""
        ...

    def read_size_hw(self, entry: Entry, max_pixels: int) -> tuple[int, int]:
        """Of the upright frame, in pixels, from the header. Raises InputError and OSError."""
        ...

    def group_key(self, entry: Entry) -> Hashable:
        """Entries of one value are decoded by one call, in order, because that is cheaper: frames of one video."""
        ...

    def read(
        self, entries: Sequence[Entry], max_pixels: int, stage: TimeStage
    ) -> Iterator[Tensor | InputError | OSError]:
        """What each of the entries, which belong together, holds: (3, H, W) uint8 RGB, upright, of a clip (T, 3, H, W); or
        why it cannot be had. Times its stages `read` and `decode`."""
        ...

    def prefetch(self, entries: Sequence[Entry], seconds: float) -> None:
        """These are next, in any order, each of them perhaps several times; one may take so many seconds."""
        ...

    def release(self, entries: Sequence[Entry]) -> None:
        """These are not read again soon."""
        ...

    def close(self) -> None:
        """Close what is kept open between reads."""
        ...


class Task(Protocol):
    """What a model's outputs mean. `filters` names the filter settings that make sense for it."""

    name: str
    filters: frozenset[str]
    schema: pa.Schema
    takes_clips: bool  # inputs are clips of a video, not images

    def make_rows(self, outputs: Outputs, items: Sequence[Item]) -> pa.Table: ...
    def draw(self, image: Tensor, rows: pa.Table, long_side: int | None = None) -> Tensor:
        """(3, H, W) uint8 RGB with its rows drawn on it; a new tensor whose long side has `long_side` pixels, or as many
        as suit the image."""
        ...


class Engine(Protocol):
    """How a forward pass runs: device, precision, memory format. `forward.Forward` has what they share."""

    device: str
    precision: str  # fp32, bf16, fp16

    @property
    def exact(self) -> bool:
        """Whether results are those of the plain fp32 loop, within rounding. Else a run measures how far they are."""
        ...

    @property
    def identity(self) -> Mapping[str, str]:
        """What of it decides results: part of a run's fingerprint."""
        ...

    def prepare(self, model: Model) -> Model:
        """Take the model over, once. Returns what the other parts are to use of it. Raises ConfigError."""
        ...

    def expect(self, images: int, batch_size: int) -> None:
        """So many images will come, in batches of at most this size: the time to make ready for them."""
        ...

    def uploader(self) -> Callable[[Sequence[Tensor]], list[Tensor]] | None:
        """Brings inputs to the device ahead of `forward`, from another thread; None where there is nothing to bring."""
        ...

    def forward(self, inputs: Sequence[Tensor], sizes_hw: Sequence[tuple[int, int]]) -> Outputs: ...


class DrawPredictions(Protocol):
    """A task's `draw`."""

    def __call__(self, image: Tensor, rows: pa.Table, long_side: int | None = None) -> Tensor: ...


class SinkWriter(Protocol):
    """Takes a shard's tables batch by batch, in any order."""

    def write(self, images: pa.Table, predictions: pa.Table) -> None: ...


@dataclass(frozen=True)
class SinkContext:
    """What a sink gets for one shard."""

    stage: Path  # a miniature run folder: what is written below it is published with the shard
    shard_id: int
    predictions_schema: pa.Schema
    draw: DrawPredictions
    read_image: Callable[[str], Tensor]  # key -> (3, H, W) uint8 RGB, upright


class Sink(Protocol):
    """Consumes Arrow tables. It sees schemas, never a task's name."""

    def open(self, context: SinkContext) -> AbstractContextManager[SinkWriter]: ...


@dataclass(frozen=True)
class ExportContext:
    """What an exporter gets."""

    folder: Path  # to write below
    predictions_schema: pa.Schema  # with the categories in its metadata
    image_root: Path  # absolute: where the images are, as files of the export may say
    # (key, name): puts an image into `image_folder` where the user wants that. Returns where it is: below the export, or
    # else where it was
    place_image: Callable[[str, str], Path]
    run_name: str


class Exporter(Protocol):
    """Turns a finished run into files of another program, shard by shard in input order. It sees schemas, never a task's
    name, and images that are ok; those that failed too, if it holds `failures`."""

    holds: frozenset[str]  # of what `finished.contents` finds in a schema, and `failures`
    image_folder: str  # below the export, where that program looks for images

    def open(self, context: ExportContext) -> AbstractContextManager[SinkWriter]: ...


class Work(Protocol):
    """What an executor is given: shards that are done in this process, or by workers elsewhere."""

    def run_locally(self, shard_ids: Iterable[int]) -> None:
        """Do them in this process, which loads the model."""
        ...

    def plain(self) -> Mapping[str, Any]:
        """What `pipeline.runs.workers.worker` needs to do them in another process, as JSON can hold it."""
        ...

    def going(self) -> AbstractContextManager[Progress]:
        """While workers do them: a bar to tell of what they have done."""
        ...


class Progress(Protocol):
    def add(self, images: int, errors: int) -> None: ...


class Executor(Protocol):
    """Where shards run. It sees shard ids, never pixels."""

    writer: (
        Writer | None
    )  # as whom this process holds the run folder while others write to it; None: only this one writes

    def preview(self, work: Work) -> str:
        """What `dry_run` says of it, if anything."""
        ...

    def run(self, shard_ids: Sequence[int], work: Work) -> str | None:
        """Do these shards, each once, or have them done. Returns what a person is to know of what is not done by then."""
        ...


Filter = Callable[[pa.Table], pa.Table]
