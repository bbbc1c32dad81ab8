"""Checked image files as training examples; pixels and masks are decoded on demand."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pipeline.annotations.class_lists import Colour
from pipeline.annotations.dataset_listing import Mask
from pipeline.annotations.label_maps import combine_masks, decode_mask, read_label_map
from pipeline.core.types import InputError, Status
from pipeline.inputs.decoding.header import check_file_size
from pipeline.inputs.decoding.image import decode_image
from pipeline.training.data_protocols import Example
from pipeline.training.examples.packed_arrays import PackedArrays, PackedMasks


@dataclass(frozen=True, slots=True)
class AnnotatedImage:
    """One checked image and its N objects, in pixels of the upright image."""

    name: str
    path: Path
    size_hw: tuple[int, int]
    labels: np.ndarray  # (N,) int64 class ids of the model
    boxes_xyxy: np.ndarray  # (N, 4) float32
    masks: tuple[Mask, ...] | None = None
    keypoints: np.ndarray | None = None  # (N, K, 3) float32
    crowd: np.ndarray | None = None  # (N,) bool; pixels of a crowd are ignored; task=segment only
    label_map: Path | None = None  # only for task=segment
    class_of: np.ndarray | None = None  # (256,) uint8: value of the label map -> class id
    colour_values: Mapping[Colour, int] | None = None  # colour of the label map -> value

    @property
    def has_objects(self) -> bool:
        """Return whether there is an object to learn from.

        With keypoints, such an object has at least one keypoint.
        """
        return (
            bool(len(self.labels))
            if self.keypoints is None
            else bool((self.keypoints[..., 2] > 0).any())
        )


class AnnotatedSet:
    """An `ExampleSet` of annotated image files.

    The values of all images are packed into a few long arrays, which are fast to send to worker
    processes. Python objects for each image would be slow to send and copied into every worker.
    """

    def __init__(self, images: Sequence[AnnotatedImage], task: str, max_pixels: int) -> None:
        self.task, self.max_pixels = task, max_pixels
        self.names = [item.name for item in images]
        self.paths = [str(item.path) for item in images]
        self.sizes_hw = np.array([item.size_hw for item in images], np.int64).reshape(-1, 2)
        self.labels = PackedArrays([item.labels for item in images])
        self.boxes_xyxy = PackedArrays([item.boxes_xyxy for item in images])
        self.keypoints = PackedArrays.from_optional([item.keypoints for item in images])
        self.crowd = PackedArrays.from_optional([item.crowd for item in images])
        self.masks = PackedMasks.from_optional([item.masks for item in images])
        self.label_maps = (
            None
            if not images or images[0].label_map is None
            else [str(item.label_map) for item in images]
        )
        self.class_of = images[0].class_of if images else None
        self.colour_values = images[0].colour_values if images else None

    def __len__(self) -> int:
        return len(self.names)

    def name(self, number: int) -> str:
        return self.names[number]

    def get_image(self, number: int) -> AnnotatedImage:
        """Return the annotations of an image without reading the file. Raises IndexError."""
        height, width = self.sizes_hw[number].tolist()
        return AnnotatedImage(
            name=self.names[number],
            path=Path(self.paths[number]),
            size_hw=(height, width),
            labels=self.labels[number],
            boxes_xyxy=self.boxes_xyxy[number],
            masks=None if self.masks is None else self.masks[number],
            keypoints=None if self.keypoints is None else self.keypoints[number],
            crowd=None if self.crowd is None else self.crowd[number],
            label_map=None if self.label_maps is None else Path(self.label_maps[number]),
            class_of=self.class_of,
            colour_values=self.colour_values,
        )

    def example(self, number: int, epoch: int) -> Example:
        item = self.get_image(number)
        with item.path.open("rb") as file:
            check_file_size(file, self.max_pixels)
            pixels = decode_image(file.read(), self.max_pixels)
        if tuple(pixels.shape[1:]) != item.size_hw:
            height, width = item.size_hw
            raise InputError(
                Status.CHANGED, f"it had {width}x{height} pixels when its annotations were checked"
            )
        return Example(pixels, self._target(item))

    def boxes(self) -> Iterator[tuple[tuple[int, int], np.ndarray]]:
        for number, (height, width) in enumerate(self.sizes_hw.tolist()):
            yield (height, width), self.boxes_xyxy[number]

    def _target(self, item: AnnotatedImage) -> dict[str, Tensor]:
        if self.task == "classify":
            return {"label": torch.tensor(int(item.labels[0]))}
        if self.task == "segment":
            return {"mask": torch.from_numpy(build_label_map(item))}
        # The arrays are copied, because augmentation may change an example in place.
        target = {
            "boxes": torch.from_numpy(item.boxes_xyxy.copy()),
            "labels": torch.from_numpy(item.labels.copy()),
        }
        if item.masks is not None:
            masks = [decode_mask(mask, item.size_hw) for mask in item.masks]
            target["masks"] = torch.from_numpy(
                np.stack(masks) if masks else np.zeros((0, *item.size_hw), np.uint8)
            )
        if item.keypoints is not None:
            target["keypoints"] = torch.from_numpy(item.keypoints.copy())
        return target


def build_label_map(item: AnnotatedImage) -> np.ndarray:
    """Build the class ids of an image's pixels, (H, W) int64, for task=segment.

    Raises:
        InputError: A mask or the label map cannot be decoded.
        OSError: The label map cannot be read.
    """
    if item.label_map is not None:
        values = read_label_map(item.label_map, item.size_hw, item.colour_values)
        return (values if item.class_of is None else item.class_of[values]).astype(np.int64)
    crowds = [False] * len(item.labels) if item.crowd is None else item.crowd.tolist()
    return combine_masks(item.labels, item.masks or (), crowds, item.size_hw)
