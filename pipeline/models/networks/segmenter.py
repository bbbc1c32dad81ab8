"""Network of a segmenter: a probability for each class at each pixel."""

from collections.abc import Callable, Hashable, Sequence
from functools import lru_cache

import torch
from torch import Tensor, nn

from pipeline.core.types import Outputs


class SegmenterNetwork(nn.Module):
    """Run a segmenter on a batch: {probabilities: (C, h, w)} for each image.

    Args:
        network: (B, 3, h, w) -> {out: logits (B, C, h, w)}.
        preprocess: (3, H, W) uint8 -> (3, h, w), the network's input.
        normalize: The part of the preprocessing that runs on whole batches.
    """

    compilable = ("body",)

    def __init__(
        self,
        network: nn.Module,
        preprocess: Callable[[Tensor], Tensor],
        normalize: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.body = nn.Sequential(normalize or nn.Identity(), network)
        self._preprocess = preprocess
        self._cached_input_hw = lru_cache(maxsize=4096)(self._compute_input_hw)

    def forward(self, inputs: Sequence[Tensor], sizes_hw: Sequence[tuple[int, int]]) -> Outputs:
        logits = self.body(torch.stack(list(inputs)))["out"]  # (B, C, h, w)
        return [{"probabilities": probabilities} for probabilities in logits.softmax(dim=1)]

    def compute_bucket(self, size_hw: tuple[int, int]) -> Hashable:
        """Return the size of the network's input, which is neither cropped nor padded."""
        return self._cached_input_hw(size_hw)

    def _compute_input_hw(self, size_hw: tuple[int, int]) -> Hashable:
        image = torch.empty(3, *size_hw, dtype=torch.uint8, device="meta")
        try:
            return tuple(self._preprocess(image).shape[-2:])
        except (RuntimeError, ValueError):
            return ("not resizable", size_hw)
