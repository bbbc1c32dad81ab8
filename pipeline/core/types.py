"""The words of the house: contracts of the parts that configuration plugs in, and the values that pass between them."""

from __future__ import annotations  # readers of finished runs need these words too, and not torch

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import pyarrow as pa

if TYPE_CHECKING:
    from torch import Tensor, nn

    from pipeline.storage.file_locks import Writer

SCHEMA_VERSION = "1"


class Status(StrEnum):
    """What became of one input. Everything but OK comes with a message in the column `error`."""

    OK = "ok"
    MISSING = "missing"  # planned, gone when its turn came
    NOT_A_FILE = "not_a_file"  # a folder, FIFO, socket or device with an image's name
    UNREADABLE = "unreadable"  # the system refused to open or read it
    EMPTY = "empty"  # zero bytes
    UNSUPPORTED = "unsupported"  # not an image, or of a kind that is not decoded
    TRUNCATED = "truncated"  # ends before its image does
    CORRUPT = "corrupt"  # complete, but the decoder cannot read it
    TOO_LARGE = "too_large"  # more pixels than max_pixels, seen in the header, or more bytes than those could need
    CHANGED = "changed"  # not the file that the plan lists
    MODEL_ERROR = "model_error"  # decoded, but the model cannot take it
    OUT_OF_MEMORY = "out_of_memory"  # too large for the memory there is, alone in its batch
    CRASHED = "crashed"  # killed the process that worked at it, twice
    TIMEOUT = "timeout"  # twice not read and decoded in the time there is for it
    DUPLICATE = "duplicate"  # not looked at because another input is the same picture: no error

    @property
    def is_error(self) -> bool:
        return self not in (Status.OK, Status.DUPLICATE)


@dataclass(frozen=True)
class GivenUp:
    """What the row of an input says that is not to be touched again."""

    status: Status
    error: str


class InputError(Exception):
    """One input cannot be used. Becomes that input's row."""

    def __init__(self, status: Status, message: str, size_hw: tuple[int, int] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.size_hw = size_hw  # where the header was readable


IMAGES_SCHEMA = pa.schema(
    [
        pa.field("image_id", pa.int64(), nullable=False),  # position in the plan
        pa.field("key", pa.string(), nullable=False),  # path below the input folder, with /
        pa.field("width", pa.int32()),  # pixels, upright; null when no header could be read
        pa.field("height", pa.int32()),
        pa.field("status", pa.dictionary(pa.int8(), pa.string()), nullable=False),
        pa.field("error", pa.string()),  # null when ok
        pa.field("n_predictions", pa.int32()),  # null when not ok: a failure is not zero detections
    ]
)


@dataclass(frozen=True)
class Entry:
    """One input as the source lists it."""

    key: str
    size: int | None  # bytes; None: not known before it is read
    mtime_ns: int  # 0: not known
    carried: tuple[Any, ...] = ()  # values of the source's own columns, which go into every row of this input
    at: int = 0  # where it begins in a file that holds many, as its source counts: bytes, rows


@dataclass(frozen=True)
class Shard:
    """The unit of work, of commit and of resume: consecutive images of the plan."""

    shard_id: int
    first_image_id: int
    entries: tuple[Entry, ...]

    def __len__(self) -> int:
        return len(self.entries)


@dataclass(frozen=True)
class View:
    """A part of an image as the model is shown it."""

    window_xyxy: tuple[int, int, int, int]  # pixels of the upright original, the ends not included
    mirrored: bool = False  # left and right exchanged within the window

    @property
    def size_hw(self) -> tuple[int, int]:
        x_min, y_min, x_max, y_max = self.window_xyxy
        return y_max - y_min, x_max - x_min


@dataclass
class Item:
    """One input on its way through a shard."""

    image_id: int
    key: str
    size_hw: tuple[int, int] | None = None  # upright frame, pixels
    status: Status = Status.OK
    error: str | None = None
    entry: Entry | None = None  # as planned
    views: tuple[View, ...] = field(default=(), repr=False)
    inputs: dict[int, Tensor] = field(default_factory=dict, repr=False)  # by view, those that wait for their batch
    pixels: Tensor | None = field(default=None, repr=False)  # uint8, kept while inputs are still to be made of it

    def fail(self, status: Status, message: str) -> None:
        """Turn this input into a failed row. The message is kept to one printable line."""
        self.status, self.inputs, self.pixels = status, {}, None
        self.error = " ".join(message.split())[:500]


@dataclass(frozen=True)
class Input:
    """What the model is given: one view of one item."""

    item: Item
    number: int  # of the view among the item's
    pixels: Tensor = field(repr=False)  # as the model's `preprocess` made it: (3, h, w), of a clip (3, T, h, w)

    @property
    def size_hw(self) -> tuple[int, int]:
        """Of the view, in pixels of the upright original."""
        return self.item.views[self.number].size_hw


@dataclass(frozen=True)
class Batch:
    """One forward pass: model inputs of one padded shape. `items` are the inputs of the shard that are through with it,
    failed ones among them; an image of many views takes several batches and is in the last one's items."""

    shard: Shard
    inputs: list[Input]
    items: list[Item]


@dataclass(frozen=True)
class ModelSpec:
    """What is known of a model before its weights are loaded."""

    name: str
    tasks: frozenset[str]  # the tasks it can serve
    categories: tuple[str, ...]  # index = the model's own class id
    weights: str  # for people: COCO_V1, random, a path
    weights_id: str  # for the fingerprint: changes when the weights do
    preprocessing: str
    keypoint_names: tuple[str, ...] = ()
    embedding_dim: Callable[[], int] | None = None  # builds the network without data, so it is asked for only when needed
    clip_lengths: range = range(1, 1 << 16)  # frames that its clips may have


Output: TypeAlias = "dict[str, Tensor]"  # of one image or view, on the CPU
Outputs: TypeAlias = "list[Output]"


@dataclass(frozen=True)
class Model:
    """A loaded model. `network(inputs, sizes_hw)` takes a list of (3, H, W) tensors as `preprocess` makes them and the
    upright sizes of what they were made of, and returns one dict per input: {boxes, labels, scores} in pixels of that size,
    {masks (N, 1, 28, 28)} in its box, {keypoints (N, K, 3), keypoints_scores (N, K)}; {logits (C,), embedding (D,) where the
    model gives one}; or {probabilities (C, h, w)}."""

    network: nn.Module
    # (3, H, W) uint8 RGB -> (3, h, w) uint8 or float32, whichever the network takes; of a clip (T, 3, H, W) -> (3, T, h, w)
    # float32. Runs in decoding threads.
    preprocess: Callable[[Tensor], Tensor]
    bucket: Callable[[tuple[int, int]], Hashable]  # size_hw -> equal for images (or views of them) that may share a batch
    weights_sha256: str | None = None  # None: random weights
    full_precision_only: bool = False  # e.g. an int8 program
    cpu_only: bool = False  # e.g. int8 kernels, onnxruntime
    fast_preprocess: Callable[[Tensor], Tensor] | None = None  # faster, the same within a level of uint8
    max_batch: int | None = None  # inputs; more at once would gain nothing
    # submodules of `network` that do most of the work and take a batch (B, ...), or a list of them, and nothing else
    compilable: tuple[str, ...] = ()


class Format(Protocol):
    """How a model is stored. `describe` reads names only; `load` reads weights; `details` is what else is known for people
    who choose a model, heading -> text."""

    def describe(self) -> ModelSpec: ...
    def details(self) -> Mapping[str, str]: ...
    def load(self) -> Model: ...


Stage = Callable[[str], AbstractContextManager[None]]  # times what is done inside, under the stage's name


class Source(Protocol):
    """Where inputs come from. One whose inputs are image files derives from `images.ImageFiles` and adds but `entries` and
    `open`."""

    identity: str  # which collection it is (part of the fingerprint)
    decoder: str  # what makes pixels of its bytes, with versions
    columns: Sequence[pa.Field]  # what its entries carry into every row, made by `table.carried_field`
    clip_length: int | None  # frames of each input; None: inputs are images

    def entries(self) -> Iterator[Entry]:
        """Every input once, streamed, sorted by key."""
        ...

    def size_hw(self, entry: Entry, max_pixels: int) -> tuple[int, int]:
        """Of the upright frame, in pixels, from the header. Raises InputError and OSError."""
        ...

    def together(self, entry: Entry) -> Hashable:
        """Entries of one value are decoded by one call, in order, because that is cheaper: frames of one video."""
        ...

    def read(self, entries: Sequence[Entry], max_pixels: int, stage: Stage) -> Iterator[Tensor | InputError | OSError]:
        """What each of the entries, which belong together, holds: (3, H, W) uint8 RGB, upright, of a clip (T, 3, H, W); or
        why it cannot be had. Times its stages `read` and `decode`."""
        ...

    def begin(self, entries: Sequence[Entry], seconds: float) -> None:
        """These are next, in any order, each of them perhaps several times; one may take so many seconds."""
        ...

    def end(self, entries: Sequence[Entry]) -> None:
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

    def rows(self, outputs: Outputs, items: Sequence[Item]) -> pa.Table: ...
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


class Draw(Protocol):
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
    draw: Draw
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

    def here(self, shard_ids: Iterable[int]) -> None:
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

    writer: Writer | None  # as whom this process holds the run folder while others write to it; None: only this one writes

    def preview(self, work: Work) -> str:
        """What `dry_run` says of it, if anything."""
        ...

    def run(self, shard_ids: Sequence[int], work: Work) -> str | None:
        """Do these shards, each once, or have them done. Returns what a person is to know of what is not done by then."""
        ...


Filter = Callable[[pa.Table], pa.Table]
Config = Mapping[str, Any]
