"""Values that pass between the rooms: inputs, shards, batches and models.

`protocols.py` and `output_protocols.py` have the contracts of the components.
"""

from __future__ import annotations  # annotations must not import torch: readers of runs lack it

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from torch import Tensor, nn


class Status(StrEnum):
    """The outcome of one input.

    Every status except OK comes with a message in the column `error`.
    """

    OK = "ok"
    MISSING = "missing"  # in the plan, but gone when it was to be read
    NOT_A_FILE = "not_a_file"  # a folder, FIFO, socket or device with the name of an image
    UNREADABLE = "unreadable"  # the system refused to open or read it
    EMPTY = "empty"  # zero bytes
    UNSUPPORTED = "unsupported"  # not an image, or of a format that is not decoded
    TRUNCATED = "truncated"  # the file ends before its image does
    CORRUPT = "corrupt"  # complete, but the decoder cannot read it
    TOO_LARGE = "too_large"  # more pixels than max_pixels, or more bytes than those could need
    CHANGED = "changed"  # not the file that the plan lists
    MODEL_ERROR = "model_error"  # decoded, but the model cannot process it
    OUT_OF_MEMORY = "out_of_memory"  # does not fit in memory even alone in its batch
    CRASHED = "crashed"  # twice killed the process that worked on it
    TIMEOUT = "timeout"  # twice not read and decoded within the timeout
    DUPLICATE = "duplicate"  # skipped because another input is the same image; not an error

    @property
    def is_error(self) -> bool:
        """Whether the input failed."""
        return self not in (Status.OK, Status.DUPLICATE)


@dataclass(frozen=True)
class ExcludedInput:
    """An input that is quarantined: it is not read again, and its row has this status and error."""

    status: Status
    error: str


class InputError(Exception):
    """One input cannot be used. The error becomes the row of that input."""

    def __init__(
        self, status: Status, message: str, size_hw: tuple[int, int] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.size_hw = size_hw  # of the upright image, where the header could be read


@dataclass(frozen=True)
class Entry:
    """One input as the source lists it."""

    key: str
    size: int | None  # bytes; None if it is not known before reading
    mtime_ns: int  # time of the last change, nanoseconds since 1970; 0 if it is not known
    # Values of the source's own columns, which go into every row of this input.
    carried: tuple[Any, ...] = ()
    # Position in a file that holds many inputs, in the source's unit: bytes or rows.
    offset: int = 0


@dataclass(frozen=True)
class Shard:
    """Consecutive inputs of the plan: the unit of work, of commit and of resume."""

    shard_id: int
    first_image_id: int  # the ids of a shard's inputs are consecutive
    entries: tuple[Entry, ...]

    def __len__(self) -> int:
        return len(self.entries)


@dataclass(frozen=True)
class View:
    """A window of an image that the model sees as one input."""

    window_xyxy: tuple[int, int, int, int]  # pixels of the upright original; max is exclusive
    mirrored: bool = False  # left and right are exchanged within the window

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width of the window, in pixels of the upright original."""
        x_min, y_min, x_max, y_max = self.window_xyxy
        return y_max - y_min, x_max - x_min


@dataclass(frozen=True)
class Failure:
    """Reason why one input has no result."""

    status: Status
    message: str
    size_hw: tuple[int, int] | None = None  # upright; None if the header cannot be read

    @classmethod
    def from_error(cls, error: InputError | OSError) -> Failure:
        """Translate what a source raises for an input that it cannot read."""
        if isinstance(error, InputError):
            return cls(error.status, str(error), error.size_hw)
        return cls(Status.UNREADABLE, error.strerror or str(error))


@dataclass(frozen=True)
class Item:
    """One planned input and what is known of it: its size, its views, its status."""

    image_id: int
    key: str
    size_hw: tuple[int, int] | None = None  # pixels, upright; None if no header can be read
    status: Status = Status.OK
    error: str | None = None
    entry: Entry | None = None  # as the plan lists it
    views: tuple[View, ...] = field(default=(), repr=False)

    def with_failure(self, failure: Failure) -> Item:
        """Return this input as failed. The message becomes one line of at most 500 characters."""
        return replace(
            self,
            size_hw=self.size_hw or failure.size_hw,
            status=failure.status,
            error=" ".join(failure.message.split())[:500],
        )


@dataclass(frozen=True)
class ModelInput:
    """One view of one input, preprocessed for the model."""

    item: Item
    view_index: int  # position in `item.views`
    pixels: Tensor = field(repr=False)  # result of `preprocess`: (3, h, w), or a clip (3, T, h, w)

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width of the view in pixels of the upright original."""
        return self.item.views[self.view_index].size_hw


@dataclass(frozen=True)
class Batch:
    """Model inputs of one padded shape for one forward pass.

    `items` are the inputs of the shard that are finished with this batch, failed ones included.
    An image whose views take several batches is listed in the last of them.
    """

    shard: Shard
    inputs: tuple[ModelInput, ...]
    items: tuple[Item, ...]


@dataclass(frozen=True)
class ModelSpec:
    """A description of a model that needs no loaded weights."""

    name: str
    outputs: frozenset[str]  # what `network` returns for each input, by the names in `Model`
    categories: tuple[str, ...]  # class names; index = class id
    weights: str  # for the user: COCO_V1, random or a path
    weights_id: str  # for the fingerprint: changes when the weights change
    preprocessing: str  # for the fingerprint: what `Model.preprocess` does
    keypoint_names: tuple[str, ...] = ()  # names of the K keypoints of an object
    # Returns the length of an embedding. It builds the network without data, so it is called only
    # when needed.
    embedding_dim: Callable[[], int] | None = None
    takes_clips: bool = False  # inputs are clips of videos, not images
    clip_lengths: range = range(1, 1 << 16)  # allowed numbers of frames of a clip


Output: TypeAlias = "dict[str, Tensor]"  # the model's output for one image or view, on the CPU
Outputs: TypeAlias = "list[Output]"


@dataclass(frozen=True)
class Model:
    """A loaded model.

    `network(inputs, sizes_hw)` takes a list of tensors made by `preprocess`, and the sizes of the
    upright images or views that they were made of. It returns one dict per input, which has one of
    these groups of entries:

    - boxes (N, 4) xyxy in pixels of that size, labels (N,), scores (N,). Also masks
      (N, 1, 28, 28), probabilities that fill the box; or keypoints (N, K, 3) and
      keypoints_scores (N, K).
    - logits (C,), and embedding (D,) where the model has one.
    - probabilities (C, h, w).
    """

    network: nn.Module
    # Image (3, H, W) uint8 RGB -> (3, h, w) uint8 or float32, whichever the network takes.
    # Clip (T, 3, H, W) uint8 RGB -> (3, T, h, w) float32. Decoding threads call it.
    preprocess: Callable[[Tensor], Tensor]
    # size_hw of an image or view -> its shape bucket. Inputs of equal buckets may share a batch.
    bucket: Callable[[tuple[int, int]], Hashable]
    weights_sha256: str | None = None  # None: random weights
    full_precision_only: bool = False  # cannot run in bf16 or fp16, e.g. an int8 program
    cpu_only: bool = False  # cannot run on a GPU, e.g. int8 kernels
    # A faster `preprocess` whose result differs by at most one level of uint8.
    fast_preprocess: Callable[[Tensor], Tensor] | None = None
    max_batch: int | None = None  # inputs of a batch; larger batches are not faster
    # size_hw of a view -> size_hw to which the network itself resizes it. None: the network does
    # not resize, and its input has the size that `bucket` gives, or one size.
    network_hw: Callable[[tuple[int, int]], tuple[int, int]] | None = None
    # Bytes of a forward pass on a CPU, divided by those of its input in float32. Measured: 10 to 25
    # for classifiers, 60 to 70 for R-CNN detectors and DeepLab.
    forward_factor: float = 64.0
    # Submodules of `network` to compile. They do most of the work, and their only argument is a
    # batch (B, ...) or a list of batches.
    compilable: tuple[str, ...] = ()


Config = Mapping[str, Any]


@dataclass(frozen=True)
class Writer:
    """A process that writes to a run folder: the only one, or one of several."""

    name: str = ""  # valid as a file name; empty for the only writer
    allowed_peers: str = ""  # pattern (fnmatch) of the names that may write at the same time
    # Seconds to wait until other writers are gone. Not 0, because a process that only checks a lock
    # holds it for a moment.
    patience_s: float = 1.0

    @classmethod
    def for_shards(cls, index: int, count: int) -> Writer:
        """Return the writer of every `count`-th shard, beside the writers of the others."""
        return cls(f"{index}-of-{count}", f"*-of-{count}") if count > 1 else cls()
