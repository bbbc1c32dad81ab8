"""Examples that a tiny network can learn: red and green squares on grey noise."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from pipeline.core.types import InputError, Status
from pipeline.training.data_protocols import Example

CATEGORIES = ("__background__", "red", "green")


@dataclass(frozen=True)
class Squares:
    """Data set of `n` pictures of `side` pixels, each but every fifth with a square.

    Pictures whose numbers are in `broken` cannot be read.
    """

    n: int
    task: str = "detect"
    side: int = 64
    broken: tuple[int, ...] = ()

    def __len__(self) -> int:
        return self.n

    @property
    def sizes_hw(self) -> np.ndarray:
        return np.full((self.n, 2), self.side)

    def name(self, number: int) -> str:
        return f"square-{number}.png"

    def _drawn(self, number: int) -> tuple[np.ndarray, list[int], int]:
        """Return (pixels (3, H, W), box xyxy, class from 1)."""
        rng = np.random.default_rng(number)
        pixels = rng.integers(90, 130, (3, self.side, self.side), dtype=np.uint8)
        size = int(rng.integers(self.side // 4, self.side // 2))
        x, y = rng.integers(0, self.side - size, 2).tolist()
        return pixels, [x, y, x + size, y + size], 1 + number % 2

    def example(self, number: int, epoch: int) -> Example:
        if number in self.broken:
            raise InputError(Status.CORRUPT, "is broken")
        pixels, (x_min, y_min, x_max, y_max), label = self._drawn(number)
        empty = number % 5 == 4 and self.task != "classify"
        if not empty:
            pixels[label - 1, y_min:y_max, x_min:x_max] = 250
        mask = torch.zeros(self.side, self.side, dtype=torch.int64)
        if not empty:
            mask[y_min:y_max, x_min:x_max] = label
        if self.task == "classify":
            return Example(torch.from_numpy(pixels), {"label": torch.tensor(label - 1)})
        if self.task == "segment":
            return Example(torch.from_numpy(pixels), {"mask": mask})
        n = 0 if empty else 1
        target = {
            "boxes": torch.tensor([[x_min, y_min, x_max, y_max]], dtype=torch.float32)[:n],
            "labels": torch.tensor([label])[:n],
        }
        if self.task == "instances":
            target["masks"] = (mask > 0).to(torch.uint8)[None][:n]
        if self.task == "keypoints":  # COCO's 17, from corner to corner
            points = [
                torch.linspace(start, end - 1, 17)
                for start, end in ((x_min, x_max), (y_min, y_max))
            ]
            target["keypoints"] = torch.stack([*points, torch.full((17,), 2.0)], dim=1)[None][:n]
        return Example(torch.from_numpy(pixels), target)

    def boxes(self) -> Iterator[tuple[tuple[int, int], np.ndarray]]:
        for number in range(self.n):
            _, box, _ = self._drawn(number)
            boxes = np.array([box], np.float32)[: 0 if number % 5 == 4 else 1]
            yield (self.side, self.side), boxes


def as_they_are(example: Example, seed: int) -> Example:
    return example
