"""Call a program that returns logits, and check what it returns."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.core.errors import PipelineError
from pipeline.core.types import Outputs
from pipeline.models.programs.signature import format_shape


class ChunkedLogits(nn.Module):
    """Call a program with as many images as it takes, and return the logits of all.

    (B, 3, h, w) -> {out: float32 logits (B, C) or (B, C, h, w)}. Raises PipelineError, which ends
    the run, where the program does not return one column per class name.

    Args:
        program: Takes (b, 3, h, w).
        n_classes: Number of class names.
        dims: Dimensions of the logits.
        batch: The fewest and the most images of a call; None: no limit.
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
        self.min_batch, self.max_batch = batch
        self._checked = False

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        chunks = images.split(self.max_batch or len(images))
        return {"out": torch.cat([self._compute_logits(chunk) for chunk in chunks])}

    def _compute_logits(self, images: Tensor) -> Tensor:
        n_missing = max(0, self.min_batch - len(images))
        padded = images
        if n_missing:
            padded = torch.cat([images, images.new_zeros(n_missing, *images.shape[1:])])

        logits = select_logits(self.program(padded)).float()
        is_expected = logits.dim() == self.dims and len(logits) == len(padded)
        if not is_expected or logits.shape[1] != self.n_classes:
            expected = f"{len(padded)} x {self.n_classes}" + " x height x width" * (self.dims == 4)
            raise PipelineError(
                f"The program gave {format_shape(tuple(logits.shape))} for a batch of "
                f"{len(padded)}; expected {expected}: categories= has {self.n_classes} names, "
                "one for each output."
            )
        if not self._checked:
            _refuse_probabilities(logits)
            self._checked = True
        return logits[: len(images)]


class LogitsPerImage(nn.Module):
    """Return {logits: (C,)} for each image of a batch."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, inputs: Sequence[Tensor], sizes_hw: Sequence[tuple[int, int]]) -> Outputs:
        batch = torch.stack(list(inputs))
        return [{"logits": logits} for logits in self.network(batch)["out"]]


def select_logits(returned: Any) -> Tensor:
    """Select the logits among what a program returned.

    They are the tensor itself, `out` of a mapping (torchvision's segmenters), or the first of
    several values.

    Raises:
        PipelineError: The selected value is not a tensor.
    """
    if isinstance(returned, Mapping):
        returned = returned.get("out", next(iter(returned.values()), None))
    elif isinstance(returned, tuple | list) and returned:
        returned = returned[0]
    if not isinstance(returned, Tensor):
        raise PipelineError(
            f"The program returned {type(returned).__name__}; "
            "expected a tensor of logits, or several."
        )
    return returned


def _refuse_probabilities(logits: Tensor) -> None:
    """Raise PipelineError for probabilities: a second softmax would flatten every score."""
    if logits.shape[1] > 1 and (logits >= 0).all() and (logits.sum(dim=1) - 1).abs().max() < 1e-3:
        raise PipelineError(
            "The program gives probabilities (not negative, and their sum is 1); expected logits. "
            "Export the model without its last softmax."
        )
