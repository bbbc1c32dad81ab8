"""An engine that runs out of memory above a size."""

from collections.abc import Sequence

import torch
from torch import Tensor


class Tight:
    """An engine that can take at most `room` values of inputs at once."""

    device, precision, is_exact, compiles = "cpu", "fp32", True, False

    def __init__(self, room: int) -> None:
        self.room, self.sizes = room, []

    def forward(
        self, inputs: Sequence[Tensor], sizes_hw: Sequence[tuple[int, int]]
    ) -> list[dict[str, Tensor]]:
        self.sizes.append(len(inputs))
        if sum(pixels.numel() for pixels in inputs) > self.room:
            raise torch.OutOfMemoryError("no room")
        nothing = {
            "boxes": torch.zeros(0, 4),
            "labels": torch.zeros(0, dtype=torch.long),
            "scores": torch.zeros(0),
        }
        return [dict(nothing) for _ in inputs]
