"""Pack the arrays of many images into one, which is far faster to send to another process."""

from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np

from pipeline.annotations.dataset_listing import Mask


class PackedArrays:
    """A list of arrays (N_i, ...), one for each image, stored as one array."""

    def __init__(self, parts: Sequence[np.ndarray]) -> None:
        self.starts = _start_offsets([len(item) for item in parts])
        self.values = np.concatenate(parts) if len(parts) else np.zeros(0)

    @classmethod
    def from_optional(cls, parts: Sequence[np.ndarray | None]) -> "PackedArrays | None":
        """Pack the arrays, or return None if the images have none."""
        present = [part for part in parts if part is not None]
        return cls(present) if present else None

    def __getitem__(self, number: int) -> np.ndarray:
        found: np.ndarray = self.values[self.starts[number] : self.starts[number + 1]]
        return found


class PackedMasks:
    """The masks of each image. Polygons are packed; run lengths, which are rare, are not."""

    def __init__(self, images: Sequence[Sequence[Mask]]) -> None:
        self.starts = _start_offsets([len(item) for item in images])
        masks = list(chain.from_iterable(images))
        self.runs: dict[int, dict[str, Any]] = {
            i: mask for i, mask in enumerate(masks) if isinstance(mask, dict)
        }
        polygons = [mask if isinstance(mask, tuple) else () for mask in masks]
        self.polygons = _start_offsets(
            [len(item) for item in polygons]
        )  # for each mask, the index of its first polygon
        self.points = PackedArrays(list(chain.from_iterable(polygons)))

    @classmethod
    def from_optional(cls, images: Sequence[Sequence[Mask] | None]) -> "PackedMasks | None":
        """Pack the masks, or return None if the images have none."""
        present = [masks for masks in images if masks is not None]
        return cls(present) if present else None

    def __getitem__(self, number: int) -> tuple[Mask, ...]:
        return tuple(self._mask(i) for i in range(self.starts[number], self.starts[number + 1]))

    def _mask(self, i: int) -> Mask:
        if i in self.runs:
            return self.runs[i]
        return tuple(self.points[k] for k in range(self.polygons[i], self.polygons[i + 1]))


def _start_offsets(counts: Sequence[int]) -> np.ndarray:
    """Return the start of each item, then the end of the last one: (n + 1,) int64."""
    return np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]).astype(np.int64)
