"""What training learns from: the contract of the parts in `pipeline/examples/`."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from torch import Tensor


@dataclass(frozen=True)
class Example:
    """An image with what is right about it. `image` is (3, H, W) uint8 RGB, upright; boxes are xyxy in its pixels.

    `target` of detect, instances, keypoints: boxes (N, 4) float32, labels (N,) int64 from 1; instances also masks (N, H, W)
    uint8 0 or 1; keypoints also keypoints (N, K, 3) float32: x, y, visibility 0 (not labelled), 1 or 2. N may be 0.
    `classify`: label () int64. `segment`: mask (H, W) int64 of class ids, 255 where nothing counts."""

    image: Tensor
    target: Mapping[str, Tensor]


class ExampleSet(Protocol):
    """Can be sent to other processes. The same arguments give the same pixels in each of them."""

    def __len__(self) -> int: ...

    @property
    def sizes_hw(self) -> np.ndarray:
        """(N, 2) int64: of each image, as it is."""
        ...

    def name(self, number: int) -> str:
        """What a message calls this example: its file."""
        ...

    def example(self, number: int, epoch: int) -> Example:
        """As it is, not augmented; `epoch` tells those that generate their examples to make new ones. Raises InputError and
        OSError."""
        ...

    def boxes(self) -> Iterator[tuple[tuple[int, int], np.ndarray]]:
        """(size_hw of the image, boxes_xyxy (N, 4) float32) of each example, without decoding images."""
        ...


class TrainingData(Protocol):
    """A data set, checked: what is wrong with it is named, with its file, when it is opened. Raises ConfigError."""

    identity: Mapping[str, str]  # which data: part of a training's fingerprint
    categories: tuple[
        str, ...
    ]  # index = class id as in the targets; a detector's and a segmenter's 0 is the background
    keypoint_names: tuple[str, ...]
    training: ExampleSet
    validation: ExampleSet
