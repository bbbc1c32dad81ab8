"""The protocol of a learner: a task's losses and its validation figures."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from pipeline.training.data_protocols import Example

Figures = dict[str, float | None]  # a figure is None where it is not defined
Losses = Mapping[str, Tensor]

# Loss weight of auxiliary heads, which exist only in training. torchvision's reference scripts
# use the same value.
AUXILIARY_WEIGHT = 0.4


class Learner(Protocol):
    """Computes the losses and the validation figures of one task.

    `figure` names the figure by which the best epoch is chosen; higher is better.
    """

    figure: str

    def compute_losses(self, network: nn.Module, batch: Sequence[Example], device: str) -> Losses:
        """Return the loss terms by name. Training minimizes their sum.

        The network is in training mode.
        """
        ...

    def compute_figures(
        self, network: nn.Module, batches: Iterable[Sequence[Example]], device: str
    ) -> tuple[Figures, list[dict]]:
        """Return all validation figures by name, and a table row for each class.

        The network is in evaluation mode.
        """
        ...


def to_unit_range(image: Tensor, device: str) -> Tensor:
    """Move a (3, H, W) uint8 image to the device and scale it to float32 in 0..1."""
    return image.to(device, non_blocking=True).float() / 255


def stack_images(batch: Sequence[Example], normalize: nn.Module, device: str) -> Tensor:
    """Stack the images of a batch and normalize them: (B, 3, h, w) float32, channels last."""
    stacked = torch.stack([example.image for example in batch])
    images: Tensor = normalize(stacked.to(device, non_blocking=True))
    return images.contiguous(memory_format=torch.channels_last)
