"""The network of a segmenter."""

from collections.abc import Callable, Hashable, Sequence
from functools import lru_cache

import torch
from torch import Tensor, nn

from pipeline.core.types import Outputs


class SegmenterNetwork(nn.Module):
    """{probabilities: (C, h, w)} for each image, at the size that the network works at."""

    compilable = ("body",)

    def __init__(
        self,
        network: nn.Module,
        preprocess: Callable[[Tensor], Tensor],
        normalize: nn.Module | None = None,
    ) -> None:
        """`preprocess` makes the inputs; `normalize`: what is left of it, for a whole batch."""
        super().__init__()
        self.body = nn.Sequential(normalize or nn.Identity(), network)
        self._preprocess = preprocess
        self._bucket = lru_cache(maxsize=4096)(self._input_hw)

    def forward(self, inputs: Sequence[Tensor], sizes_hw: Sequence[tuple[int, int]]) -> Outputs:
        logits = self.body(torch.stack(list(inputs)))["out"]  # (B, C, h, w)
        return [{"probabilities": one} for one in logits.softmax(dim=1)]

    def bucket(self, size_hw: tuple[int, int]) -> Hashable:
        """The input's size: it is neither cropped nor padded."""
        return self._bucket(size_hw)

    def _input_hw(self, size_hw: tuple[int, int]) -> Hashable:
        try:
            return tuple(
                self._preprocess(torch.empty(3, *size_hw, dtype=torch.uint8, device="meta")).shape[
                    -2:
                ]
            )
        except (RuntimeError, ValueError):
            return ("not resizable", size_hw)
