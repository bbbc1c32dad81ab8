"""Protocols of training data, implemented by the components in `datasets/`."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from torch import Tensor


@dataclass(frozen=True)
class Example:
    """An image and its annotations.

    `image` is (3, H, W) uint8 RGB, upright. `target` depends on the task; N may be 0:

    - detect: `boxes` (N, 4) float32 xyxy in pixels of the image, `labels` (N,) int64 from 1.
    - instances: also `masks` (N, H, W) uint8, 0 or 1.
    - keypoints: also `keypoints` (N, K, 3) float32: x, y and visibility, which is 0 (not
      labelled), 1 or 2.
    - classify: `label`, an int64 scalar.
    - segment: `mask` (H, W) int64 class ids, 255 where a pixel is ignored.
    """

    image: Tensor
    target: Mapping[str, Tensor]


class ExampleSet(Protocol):
    """The examples of one part of the data, addressed by number.

    A set can be pickled. The same arguments give the same pixels in every process.
    """

    def __len__(self) -> int: ...

    @property
    def sizes_hw(self) -> np.ndarray:
        """(N, 2) int64: height and width of each stored image."""
        ...

    def name(self, number: int) -> str:
        """Return the name of an example for messages, such as its file."""
        ...

    def example(self, number: int, epoch: int) -> Example:
        """Read or generate an example, without augmentation.

        Args:
            number: Index of the example.
            epoch: The epoch. A set that generates its examples makes new ones in each epoch.

        Raises:
            InputError: The image or its annotation cannot be decoded.
            OSError: A file cannot be read.
        """
        ...

    def boxes(self) -> Iterator[tuple[tuple[int, int], np.ndarray]]:
        """Yield (size_hw, boxes_xyxy (N, 4) float32) of each example without decoding images."""
        ...


class TrainingData(Protocol):
    """A data set with a training and a validation part.

    Its constructor checks all annotations, and raises a ConfigError that names the faulty files.
    """

    identity: Mapping[str, str]  # identifies the data in a training's fingerprint
    categories: tuple[
        str, ...
    ]  # index = class id in the targets; for detectors and segmenters 0 is the background
    keypoint_names: tuple[str, ...]
    training: ExampleSet
    validation: ExampleSet
