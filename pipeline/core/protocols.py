"""Contracts of the components that configuration plugs in, and the values passed to them.

Each protocol names the operations that the run needs of a component.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

import pyarrow as pa

from pipeline.core.passed_over import PassedOver
from pipeline.core.task_roles import Content, EvaluationMethod, RowComparison, ViewMerging
from pipeline.core.types import Entry, InputError, Item, Model, ModelSpec, Outputs, Writer

if TYPE_CHECKING:
    from torch import Tensor


class Format(Protocol):
    """Storage format of a model: reads its description and loads it."""

    @classmethod
    def recognises(cls, model: str) -> bool:
        """Return whether the value of the setting `model` names a model in this format."""
        ...

    @classmethod
    def list_file_tasks(cls, model: str) -> Sequence[str]:
        """Return the tasks of a recognised model, the one it was made for first.

        The list is empty where only the user can know. No code of the model is run.
        """
        ...

    def describe(self) -> ModelSpec:
        """Return the model's description without loading weights."""
        ...

    def details(self) -> Mapping[str, str]:
        """Return further facts for a user who chooses a model: heading -> text."""
        ...

    def load(self) -> Model:
        """Load the weights and return the model on the CPU."""
        ...


# Stage name -> context that adds the time spent inside it to that stage.
TimeStage = Callable[[str], AbstractContextManager[None]]


class ImageDecoder(Protocol):
    """Turns encoded image files into pixels."""

    @property
    def name(self) -> str:
        """The libraries in use, with versions. It is part of a run's fingerprint."""
        ...

    @property
    def is_batched(self) -> bool:
        """Whether one call for many files is cheaper than one call for each."""
        ...

    def decode_many(self, files: Sequence[bytes], max_pixels: int) -> Sequence[Tensor | InputError]:
        """Decode whole files to (3, H, W) uint8 RGB, upright, each to its pixels or its error."""
        ...

    def log_notes(self) -> None:
        """Log what was noticed about the decoded files, once."""
        ...


class Source(Protocol):
    """Lists inputs and reads their pixels.

    A source of image files derives from `pipeline.inputs.image_source.ImageSource`. The class of a
    source also has the class methods of `pipeline.core.recorded_inputs.SourceClass`, for the
    readers of finished runs.
    """

    identity: str  # `<name of the component>:<the input>`; part of the fingerprint
    decoder: str  # what decodes its bytes, with versions; part of the fingerprint
    columns: Sequence[pa.Field]  # of its entries' `carried`; made by `make_carried_field`
    clip_length: int | None  # frames of each input; None: inputs are images
    has_image_files: bool  # each input is an encoded image file: see `ImageFileSource`
    passed_over: PassedOver  # what the last listing passed over
    hint_if_empty: str  # what to say of other sources if nothing is found; may be empty

    def entries(self) -> Iterator[Entry]:
        """Yield every input once, sorted by key, without reading pixels."""
        ...

    def read_size_hw(self, entry: Entry, max_pixels: int) -> tuple[int, int]:
        """Return the size of the upright image in pixels, from the header.

        Raises:
            InputError, OSError: The header cannot be read.
        """
        ...

    def group_key(self, entry: Entry) -> Hashable:
        """Return a key that is equal for entries to decode together, e.g. frames of one video."""
        ...

    def read(
        self, entries: Sequence[Entry], max_pixels: int, stage: TimeStage
    ) -> Iterator[Tensor | InputError | OSError]:
        """Yield the pixels of each entry, or the error why it has none.

        The entries have one group key. The pixels of an upright image are (3, H, W) uint8 RGB, of
        a clip (T, 3, H, W). The stages `read` and `decode` are timed.
        """
        ...

    def prefetch(self, entries: Sequence[Entry], seconds: float) -> None:
        """Prepare for entries that will be read next, in any order and perhaps more than once.

        `seconds`: how long one of them may take.
        """
        ...

    def release(self, entries: Sequence[Entry]) -> None:
        """Forget what one call of `prefetch` prepared for these entries.

        Whoever calls `prefetch` calls `release` with the same entries, once.
        """
        ...

    def close(self) -> None:
        """Close everything that stays open between reads."""
        ...


class ImageFileSource(Source, Protocol):
    """A source whose inputs are encoded image files (`has_image_files`)."""

    def open(self, entry: Entry) -> BinaryIO:
        """Open the input's bytes as a seekable file. Raises InputError and OSError."""
        ...


class Task(Protocol):
    """Makes rows of a model's outputs, and declares what may be done with these rows.

    All but `schema` are attributes of the class, because readers of finished runs ask the class and
    have no model. A task's module imports torch only where it makes or draws rows, so that such
    readers need not wait for it.

    The class is built with `spec: ModelSpec` and the keys of its configuration file, all by name.
    The run's filters are applied to the rows that `make_rows` returns: a task that joins several
    detections into one row sees all that the model reports, also those below `min_score`.
    """

    name: str  # the name of its file in conf/task/
    needs: frozenset[str]  # the outputs of a model that it reads, by the names in `types.Model`
    takes_clips: bool  # inputs are clips of videos, not images
    contents: frozenset[Content]  # what its rows hold, in the columns that `Content` names
    # The filter settings that make sense for it. Others are refused, but `classes`, `exclude` and
    # `min_score` work on any rows and are never refused.
    filters: frozenset[str]
    merging: ViewMerging  # how outputs for tiles and mirror images become one
    comparison: RowComparison  # which rows of two runs mean the same
    # How its rows are measured against annotations, or why they cannot be: the end of a sentence
    # that begins "task=NAME cannot be evaluated: ".
    evaluations: tuple[EvaluationMethod, ...] | str
    schema: pa.Schema  # of its rows: `make_predictions_schema`, with columns of its own

    def make_rows(self, outputs: Outputs, items: Sequence[Item]) -> pa.Table:
        """Return the rows of these items, which have one output each, in the order of the items."""
        ...

    def draw(self, image: Tensor, rows: pa.Table, long_side: int | None = None) -> Tensor:
        """Return a new image with the rows of one image drawn on it.

        Args:
            image: (3, H, W) uint8 RGB. It is not changed.
            long_side: pixels of the result's longer side. None: as many as suit the image.
        """
        ...


class Engine(Protocol):
    """Runs forward passes on a device, in one precision and memory format."""

    device: str  # as PyTorch names it: cpu, cuda, cuda:0
    precision: str  # fp32, bf16, fp16
    # Whether a forward pass may include compilation, which takes minutes. An engine without this
    # attribute does not compile.
    compiles: bool

    @property
    def is_exact(self) -> bool:
        """Whether results equal those of fp32 up to rounding. If not, a run measures the gap."""
        ...

    @property
    def identity(self) -> Mapping[str, str]:
        """The settings that determine results; part of a run's fingerprint."""
        ...

    def prepare(self, model: Model) -> Model:
        """Move the model to the device and optimize it. Called once.

        Returns:
            The model that the other components use.

        Raises:
            ConfigError: The model cannot run with this engine's settings.
        """
        ...

    def prepare_for_run(self, images: int, batch_size: int) -> None:
        """Prepare for a number of images in batches of at most `batch_size`, e.g. compile."""
        ...

    def make_uploader(self) -> Callable[[Sequence[Tensor]], list[Tensor]] | None:
        """Return a function that copies inputs to the device before `forward`, from another thread.

        Returns:
            The function, or None where the device is the CPU.
        """
        ...

    def forward(self, inputs: Sequence[Tensor], sizes_hw: Sequence[tuple[int, int]]) -> Outputs:
        """Run the network on one batch; see `Model` for the inputs and outputs."""
        ...


class Progress(Protocol):
    """Counts images while shards are computed, for example in a progress bar."""

    images: int  # counted so far in this session

    def add(self, images: int, errors: int) -> None:
        """Count further images and how many of them failed."""
        ...


@dataclass(frozen=True)
class ExecutionResult:
    """Figures of one session of an executor."""

    images: int = 0  # computed in this session
    seconds: float = 0.0  # from the first shard to the last, without loading the model
    stage_seconds: Mapping[str, float] | None = None  # None: computed by other processes
    decode_workers: int = 0  # decoding threads of this process
    message: str | None = None  # for the user: what happens to shards that are not committed yet


@dataclass(frozen=True)
class ShardJob:
    """Order and functions for an executor that computes shards.

    Attributes:
        run_here: Loads the model in this process and computes these shards in order.
        order: Describes the run for workers in other processes; contains only JSON types.
        show_progress: Shows a progress bar while other processes compute shards.
    """

    run_here: Callable[[Iterable[int]], ExecutionResult]
    order: Mapping[str, Any]
    show_progress: Callable[[], AbstractContextManager[Progress]]


class Executor(Protocol):
    """Distributes shards to processes or machines. It sees shard ids, never pixels."""

    # How this process locks the run folder while workers write to it; None: nobody else writes.
    writer: Writer | None

    def preview(self, order: Mapping[str, Any]) -> str:
        """Return text for `dry_run`, or an empty string. `order` is that of the job."""
        ...

    def run(self, shard_ids: Sequence[int], job: ShardJob) -> ExecutionResult:
        """Compute each of these shards once, or submit them."""
        ...


Filter = Callable[[pa.Table], pa.Table]  # prediction rows -> the rows to keep
