"""A plain image that any model can take, to try the model with."""

import torch
from torch import Tensor

PROBE_HW = (256, 256)


def make_grey_image(clip_length: int | None) -> Tensor:
    """Return a plain grey image (3, 256, 256) uint8, or a clip (T, 3, 256, 256)."""
    frames = () if clip_length is None else (clip_length,)
    return torch.full((*frames, 3, *PROBE_HW), 127, dtype=torch.uint8)
