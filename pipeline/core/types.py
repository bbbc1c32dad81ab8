"""Values that pass between the rooms: inputs, shards, batches, models. `protocols.py` has the contracts."""

from __future__ import annotations  # readers of finished runs need these words too, and not torch

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from torch import Tensor, nn

    pass


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
class ExcludedInput:
    """What the row of an input says that is not to be touched again."""

    status: Status
    error: str


class InputError(Exception):
    """One input cannot be used. Becomes that input's row."""

    def __init__(
        self, status: Status, message: str, size_hw: tuple[int, int] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.size_hw = size_hw  # where the header was readable


@dataclass(frozen=True)
class Entry:
    """One input as the source lists it."""

    key: str
    size: int | None  # bytes; None: not known before it is read
    mtime_ns: int  # 0: not known
    carried: tuple[
        Any, ...
    ] = ()  # values of the source's own columns, which go into every row of this input
    offset: int = 0  # where it begins in a file that holds many, as its source counts: bytes, rows


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
    inputs: dict[int, Tensor] = field(
        default_factory=dict, repr=False
    )  # by view, those that wait for their batch
    pixels: Tensor | None = field(
        default=None, repr=False
    )  # uint8, kept while inputs are still to be made of it

    def fail(self, status: Status, message: str) -> None:
        """Turn this input into a failed row. The message is kept to one printable line."""
        self.status, self.inputs, self.pixels = status, {}, None
        self.error = " ".join(message.split())[:500]


@dataclass(frozen=True)
class ModelInput:
    """What the model is given: one view of one item."""

    item: Item
    view_index: int  # of the view among the item's
    pixels: Tensor = field(
        repr=False
    )  # as the model's `preprocess` made it: (3, h, w), of a clip (3, T, h, w)

    @property
    def size_hw(self) -> tuple[int, int]:
        """Of the view, in pixels of the upright original."""
        return self.item.views[self.view_index].size_hw


@dataclass(frozen=True)
class Batch:
    """One forward pass: model inputs of one padded shape. `items` are the inputs of the shard that are through with it,
    failed ones among them; an image of many views takes several batches and is in the last one's items."""

    shard: Shard
    inputs: list[ModelInput]
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
    embedding_dim: Callable[[], int] | None = (
        None  # builds the network without data, so it is asked for only when needed
    )
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
    bucket: Callable[
        [tuple[int, int]], Hashable
    ]  # size_hw -> equal for images (or views of them) that may share a batch
    weights_sha256: str | None = None  # None: random weights
    full_precision_only: bool = False  # e.g. an int8 program
    cpu_only: bool = False  # e.g. int8 kernels, onnxruntime
    fast_preprocess: Callable[[Tensor], Tensor] | None = (
        None  # faster, the same within a level of uint8
    )
    max_batch: int | None = None  # inputs; more at once would gain nothing
    # submodules of `network` that do most of the work and take a batch (B, ...), or a list of them, and nothing else
    compilable: tuple[str, ...] = ()


Config = Mapping[str, Any]


@dataclass(frozen=True)
class Writer:
    """One of those who write to a run folder. `name` is a file's name, empty for one who writes alone."""

    name: str = ""
    allowed_peers: str = ""  # which other names may be there, as a pattern
    patience_s: float = 1.0  # seconds to wait for those that may not; not 0, because who looks at a lock holds it for a moment

    @classmethod
    def for_shards(cls, index: int, count: int) -> Writer:
        """Of every `count`-th shard; the only one for 1."""
        return cls(f"{index}-of-{count}", f"*-of-{count}") if count > 1 else cls()
