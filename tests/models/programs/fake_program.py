"""A program for tests."""

from typing import Any

from torch import Tensor, nn


class FakeProgram(nn.Module):
    """A program that returns `answer(images)` and records the size of each batch."""

    def __init__(self, answer: Any) -> None:
        super().__init__()
        self.answer, self.sizes = answer, []

    def forward(self, images: Tensor) -> Any:
        self.sizes.append(len(images))
        return self.answer(images)
