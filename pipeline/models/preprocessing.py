"""torchvision's preprocessing in two halves: resize and crop each image, then normalise the batch.

The halves together give the preset's own values, bit for bit (a test compares them). Between them
images are uint8: a quarter of the memory of float32, and of the bytes to copy to a device.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.transforms import functional, v2
from torchvision.transforms._presets import ImageClassification, SemanticSegmentation

Transform = Callable[[Tensor], Tensor]
# Limit for a resized image, which takes 200 MB in float32. If the shorter side becomes 520 pixels,
# an image exceeds the limit when its longer side is more than 60 times the shorter one.
_MAX_PIXELS = 2**24


class Normalize(nn.Module):
    """Scale uint8 to 0..1, subtract `mean`, divide by `std`: (B, 3, h, w) uint8 -> float32.

    Float images are already normalised and returned as they are.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(std)[:, None, None], persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        if images.is_floating_point():
            return images
        return (images.float() / 255 - self.mean) / self.std


@dataclass(frozen=True)
class Preprocessing:
    """The two halves of a preset.

    Args:
        resize: (3, H, W) uint8 -> (3, h, w), for each image.
        normalize: (B, 3, h, w) -> float32, for the batch.
        fast_resize: Like `resize`, but computed in uint8: a quarter of the time, and values differ
            by at most one level. None where there is no faster way.
    """

    resize: Transform
    normalize: nn.Module
    fast_resize: Transform | None = None

    @classmethod
    def from_preset(cls, preset: Transform) -> "Preprocessing":
        """Split torchvision's presets; any other transform becomes the first half as it is."""
        if type(preset) not in (ImageClassification, SemanticSegmentation):
            return cls(preset, nn.Identity())
        exact = _build_resize(preset, functional.resize)
        fast = _build_resize(preset, v2.functional.resize)
        return cls(exact, Normalize(preset.mean, preset.std), fast)  # type: ignore[attr-defined]


def _build_resize(preset: Any, resize: Callable[..., Tensor]) -> Transform:
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
    """Raise ValueError for an image that would fill the memory after resizing.

    For example, 1 x 5000 pixels become 520 x 2,600,000 where the shorter side becomes 520.
    """
    height, width = image.shape[-2:]
    if len(size) == 1 and size[0] ** 2 * max(height, width) > _MAX_PIXELS * min(height, width):
        raise ValueError(
            f"too thin: with a shorter side of {size[0]} pixels, as this model takes it, "
            "it would be too large"
        )
