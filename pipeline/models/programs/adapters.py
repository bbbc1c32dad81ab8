"""Programs of others as networks of ours: what a program takes, and what it gives back, whichever format it came in."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.core.errors import PipelineError
from pipeline.core.types import Outputs

Shape = tuple[int | None, ...]  # None: any size
DETECTION_OUTPUTS = ("boxes", "labels", "scores")


@dataclass(frozen=True)
class ProgramSignature:
    """What a file says of its one input and of its outputs. `main` is the shape of the output that counts for classes and
    segmentation; an empty shape is one that the file does not tell."""

    input: Shape  # (B, 3, h, w), or (3, H, W) for a detector
    outputs: Mapping[str, Shape]
    main: Shape
    batch: tuple[int, int | None]  # the least and the most images of a call


def format_shape(shape: Shape) -> str:
    """`any x 3 x 224 x 224`."""
    return " x ".join("any" if size is None else str(size) for size in shape) or "unknown"


class ChunkedLogits(nn.Module):
    """(B, 3, h, w) -> {out: float32 logits (B, C) or (B, C, h, w)}, from a program that may take only so many images a call.

    Raises PipelineError when the logits are not one column per class name: that is no image's fault.
    """

    def __init__(
        self,
        program: nn.Module,
        n_classes: int,
        dims: int,
        batch: tuple[int, int | None] = (1, None),
    ) -> None:
        super().__init__()
        self.program, self.n_classes, self.dims = program, n_classes, dims
        self.least, self.most = batch
        self._checked = False

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        parts = [self._logits(chunk) for chunk in images.split(self.most or len(images))]
        return {"out": torch.cat(parts)}

    def _logits(self, images: Tensor) -> Tensor:
        missing = max(0, self.least - len(images))
        filled = (
            torch.cat([images, images.new_zeros(missing, *images.shape[1:])]) if missing else images
        )
        logits = select_logits(self.program(filled)).float()
        if (
            logits.dim() != self.dims
            or len(logits) != len(filled)
            or logits.shape[1] != self.n_classes
        ):
            expected = f"{len(filled)} x {self.n_classes}" + " x height x width" * (self.dims == 4)
            raise PipelineError(
                f"The program gave {format_shape(tuple(logits.shape))} for a batch of {len(filled)}; expected {expected}: "
                f"categories= has {self.n_classes} names, one for each output."
            )
        if not self._checked:
            _refuse_probabilities(logits)
            self._checked = True
        return logits[: len(images)]


def _refuse_probabilities(logits: Tensor) -> None:
    """A softmax inside the program would be taken a second time, which flattens every score."""
    if logits.shape[1] > 1 and (logits >= 0).all() and (logits.sum(dim=1) - 1).abs().max() < 1e-3:
        raise PipelineError(
            "The program gives probabilities (not negative, and their sum is 1); expected logits. "
            "Export the model without its last softmax."
        )


class LogitsPerImage(nn.Module):
    """{logits: (C,)} for each image."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, inputs: Sequence[Tensor], sizes_hw: Sequence[tuple[int, int]]) -> Outputs:
        return [{"logits": one} for one in self.network(torch.stack(list(inputs)))["out"]]


class OneImageDetector(nn.Module):
    """{boxes, labels, scores} for each image. One image a call: a program may ignore all but the first (mobile ones do), or
    pad and change results."""

    def __init__(self, program: Callable[[Tensor], Any], batched: bool = False) -> None:
        super().__init__()
        self.program, self.batched = (
            program,
            batched,
        )  # batched: it takes (1, 3, H, W) instead of (3, H, W)

    def forward(self, inputs: Sequence[Tensor], sizes_hw: Sequence[tuple[int, int]]) -> Outputs:
        return [
            parse_detections(self.program(image[None] if self.batched else image), self.batched)
            for image in inputs
        ]


def select_logits(returned: Any) -> Tensor:
    """The tensor itself, `out` of a mapping as torchvision's segmenters give it, or the first of several."""
    if isinstance(returned, Mapping):
        returned = returned.get("out", next(iter(returned.values()), None))
    elif isinstance(returned, tuple | list) and returned:
        returned = returned[0]
    if not isinstance(returned, Tensor):
        raise PipelineError(
            f"The program returned {type(returned).__name__}; expected a tensor of logits, or several."
        )
    return returned


def parse_detections(returned: Any, batched: bool = False) -> dict[str, Tensor]:
    """{boxes (N, 4), labels (N,), scores (N,)} out of what a detector gives for one image: a mapping with these names,
    torchvision's `[mapping]` or `(losses, [mapping])`, or else the three tensors, known by their types and shapes."""
    if isinstance(returned, tuple) and len(returned) == 2 and isinstance(returned[1], list):
        returned = returned[1]  # (losses, detections) of a scripted one
    if isinstance(returned, list | tuple) and len(returned) == 1:
        returned = returned[0]
    named = isinstance(returned, Mapping) and set(DETECTION_OUTPUTS) <= set(returned)
    tensors = [returned[name] for name in DETECTION_OUTPUTS] if named else list(_tensors(returned))
    if batched:  # the batch of one again
        tensors = [one[0] if one.dim() and len(one) == 1 else one for one in tensors]
    found = dict(zip(DETECTION_OUTPUTS, tensors, strict=True)) if named else _by_shape(tensors)
    count = len(found["scores"]) if found and found["scores"].dim() == 1 else -1
    if not found or found["boxes"].shape != (count, 4) or found["labels"].shape != (count,):
        gave = ", ".join(f"{one.dtype} {format_shape(tuple(one.shape))}" for one in tensors)
        raise PipelineError(
            f"The program gave {gave or type(returned).__name__} for one image; expected the interface of a torchvision "
            "detector: boxes (N x 4, float), labels (N, integer) and scores (N, float)."
        )
    return {"boxes": found["boxes"], "labels": found["labels"].long(), "scores": found["scores"]}


def _by_shape(tensors: list[Tensor]) -> dict[str, Tensor] | None:
    """None unless each of the three is there exactly once."""
    fitting = {
        "boxes": [
            one
            for one in tensors
            if one.is_floating_point() and one.dim() == 2 and one.shape[1] == 4
        ],
        "labels": [one for one in tensors if not one.is_floating_point() and one.dim() == 1],
        "scores": [one for one in tensors if one.is_floating_point() and one.dim() == 1],
    }
    return (
        {name: found[0] for name, found in fitting.items()}
        if all(len(f) == 1 for f in fitting.values())
        else None
    )


def _tensors(returned: Any) -> Iterator[Tensor]:
    values = (
        returned.values()
        if isinstance(returned, Mapping)
        else returned
        if isinstance(returned, list | tuple)
        else ()
    )
    return (value for value in (*values, returned) if isinstance(value, Tensor))
