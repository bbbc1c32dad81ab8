"""torchvision's preprocessing presets in two halves: resize and crop image by image, then scale and normalise by the batch.

The halves together give the preset's own values, bit for bit (a test compares them). In between stands uint8: a quarter of
the memory to keep, and to copy to a device.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.transforms import functional, v2
from torchvision.transforms._presets import ImageClassification, SemanticSegmentation

Transform = Callable[[Tensor], Tensor]
_MOST_PIXELS = (
    2**24
)  # of a resized image: 200 MB in float32, and its sides 60 to 1 for a network that takes 520 pixels


class Normalize(nn.Module):
    """(B, 3, h, w) uint8 -> float32: to 0..1, minus `mean`, over `std`. Float images, prepared already, pass as they are."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(std)[:, None, None], persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        return (
            images if images.is_floating_point() else (images.float() / 255 - self.mean) / self.std
        )


@dataclass(frozen=True)
class Preprocessing:
    """`resize`: (3, H, W) uint8 -> (3, h, w), image by image; `normalize`: a batch of them -> float32. `fast_resize` does
    it in uint8 instead of float32 (a quarter of the time, values at most one level off); None: there is no faster way."""

    resize: Transform
    normalize: nn.Module
    fast_resize: Transform | None = None

    @classmethod
    def from_preset(cls, preset: Transform) -> "Preprocessing":
        """One that is not known is used as it is."""
        if type(preset) not in (ImageClassification, SemanticSegmentation):
            return cls(preset, nn.Identity())
        exact, fast = _resize(preset, functional.resize), _resize(preset, v2.functional.resize)
        return cls(exact, Normalize(preset.mean, preset.std), fast)  # type: ignore[attr-defined]


def _resize(preset: Any, resize: Callable[..., Tensor]) -> Transform:
    size, crop = preset.resize_size, getattr(preset, "crop_size", None)

    def apply(image: Tensor) -> Tensor:
        if size is not None:
            _check_resized(image, size)
            image = resize(
                image, size, interpolation=preset.interpolation, antialias=preset.antialias
            )
        return image if crop is None else functional.center_crop(image, crop)

    return apply


def _check_resized(image: Tensor, size: Sequence[int]) -> None:
    """Raise ValueError for what would fill the memory: of 1 x 5000 pixels, the shorter side becomes 520, the other
    2,600,000."""
    height, width = image.shape[-2:]
    if len(size) == 1 and size[0] ** 2 * max(height, width) > _MOST_PIXELS * min(height, width):
        raise ValueError(
            f"too thin: with a shorter side of {size[0]} pixels, as this model takes it, it would be too large"
        )
