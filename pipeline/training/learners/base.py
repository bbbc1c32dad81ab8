"""What a task's networks learn from: losses by part, and how right they are on the validation part. `objects.py` and
`labels.py` have a class for each kind of output."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from pipeline.training.protocols import Example

Figures = dict[str, float | None]
Losses = Mapping[str, Tensor]


class Learner(Protocol):
    """`figure` is what the best epoch is chosen by; more is better."""

    figure: str

    def compute_losses(self, network: nn.Module, batch: Sequence[Example], device: str) -> Losses:
        """Of the network in training mode, by part; their sum is what is minimised."""
        ...

    def compute_figures(
        self, network: nn.Module, batches: Iterable[Sequence[Example]], device: str
    ) -> tuple[Figures, list[dict]]:
        """Of the network in evaluation mode: all figures by name, and a row for each class."""
        ...


def to_unit_range(image: Tensor, device: str) -> Tensor:
    """(3, H, W) uint8 -> float32 in 0..1 on the device."""
    return image.to(device, non_blocking=True).float() / 255


def stack_images(batch: Sequence[Example], normalize: nn.Module, device: str) -> Tensor:
    """(B, 3, h, w) float32 as the network takes it."""
    images: Tensor = normalize(
        torch.stack([one.image for one in batch]).to(device, non_blocking=True)
    )
    return images.contiguous(memory_format=torch.channels_last)
