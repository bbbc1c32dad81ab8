"""Augmentation of training examples: mirror, crop and colour, with torchvision.transforms.v2."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from pipeline.ops.keypoints import find_mirrored_keypoints
from pipeline.ops.masks import IGNORED_LABEL
from pipeline.training.data_protocols import Example
from pipeline.training.object_crop import ObjectCrop

_MEAN_COLOUR = (
    124,
    116,
    104,
)  # ImageNet's mean colour, which preprocessing subtracts, so that padding becomes 0
_DETECTION = ("detect", "instances", "keypoints")


class Augmentation:
    """A sequence of transforms, seeded for each example.

    The steps take and return the fields of an `Example` as tv_tensors. The same seed gives the
    same example in every process. The process's random state is restored afterwards. That state
    is shared by threads, so two threads must not augment at the same time.
    """

    def __init__(self, steps: Sequence[nn.Module]) -> None:
        self.steps = tuple(steps)

    @classmethod
    def for_training(
        cls,
        task: str,
        names: Sequence[str],
        crop_hw: tuple[int, int] | None = None,
        keypoint_names: Sequence[str] = (),
        resize: int | None = None,
    ) -> "Augmentation":
        """Build the augmentation of the training part.

        Args:
            task: The task.
            names: Any of flip, crop and colour.
            crop_hw: The size to which classify and segment crop all images, to make a batch.
                Detectors take images of any size.
            keypoint_names: Names of the keypoints, to find those that a mirror exchanges.
            resize: The shorter side before the crop, as in the weights' preprocessing.
        """
        flip: list[nn.Module] = [RandomMirror(keypoint_names)] if "flip" in names else []
        # The changes are as mild as between two lamps or cameras. Changing the hue is slow, so few
        # images get it.
        hue = v2.RandomApply([v2.ColorJitter(hue=0.03)], p=0.3)
        colour: list[nn.Module] = [v2.ColorJitter(0.3, 0.3, 0.3), hue] if "colour" in names else []
        if task in _DETECTION:
            return cls([*([ObjectCrop()] if "crop" in names else []), *flip, *colour])
        size = (
            _fixed_crop_steps(task, crop_hw, resize)
            if "crop" not in names
            else _random_crop_steps(task, crop_hw, resize)
        )
        return cls([*size, *flip, *colour])  # colour comes last, because a crop has fewer pixels

    @classmethod
    def for_validation(
        cls, task: str, crop_hw: tuple[int, int] | None = None, resize: int | None = None
    ) -> "Augmentation":
        """Build the transforms of inference, without randomness. Segment keeps the aspect ratio."""
        if task in _DETECTION:
            return cls([])
        return cls(_fixed_crop_steps(task, crop_hw if task == "classify" else None, resize))

    def with_channels(self, channels: str) -> "Augmentation":
        """Return this augmentation with the image's channels in the given order, rgb or bgr."""
        return self if channels == "rgb" else Augmentation([*self.steps, ReverseChannels()])

    def __call__(self, example: Example, seed: int) -> Example:
        if not self.steps:
            return example
        sample = _to_tv_tensors(example)
        with torch.random.fork_rng(devices=[]):
            # torch.manual_seed would also seed the GPUs, which is slow.
            torch.default_generator.manual_seed(seed)
            for step in self.steps:
                sample = step(sample)
        return Example(
            _to_tensor(sample.pop("image")),
            {name: _to_tensor(value) for name, value in sample.items()},
        )


class RandomMirror(nn.Module):
    """Mirror half of the images; keypoints named left and right change places."""

    def __init__(self, keypoint_names: Sequence[str]) -> None:
        super().__init__()
        self.order = find_mirrored_keypoints(keypoint_names)

    def forward(self, sample: dict[str, Any]) -> dict[str, Any]:
        if torch.rand(()) >= 0.5:
            return sample
        flipped = {
            name: functional.horizontal_flip(value)
            if isinstance(value, tv_tensors.TVTensor)
            else value
            for name, value in sample.items()
        }
        if "keypoints" in flipped:
            if len(self.order) != flipped["keypoints"].shape[1]:
                raise ValueError(
                    f"{len(self.order)} names of keypoints for {flipped['keypoints'].shape[1]}"
                )
            points = flipped["keypoints"][:, self.order].clone()
            points[..., 0] = torch.where(
                points[..., 2] > 0, sample["image"].shape[-1] - points[..., 0], points[..., 0]
            )
            flipped["keypoints"] = points
        return flipped


class ReverseChannels(nn.Module):
    """Reverse the channels: RGB to BGR."""

    def forward(self, sample: dict[str, Any]) -> dict[str, Any]:
        return sample | {"image": tv_tensors.Image(sample["image"].flip(0))}


def _random_crop_steps(
    task: str, crop_hw: tuple[int, int] | None, resize: int | None
) -> list[nn.Module]:
    """Build a random crop as in torchvision's reference scripts.

    Classification crops an area of at least a third of the image. Segmentation first scales the
    image by a factor from 0.5 to 2.
    """
    if crop_hw is None:
        raise ValueError(f"task={task}: crop needs the size of the crop")
    if task == "classify":
        return [v2.RandomResizedCrop(crop_hw, scale=(0.35, 1.0), antialias=True)]
    side = resize or min(crop_hw)
    return [
        v2.RandomResize(side // 2, side * 2, antialias=True),
        _build_padded_crop(v2.RandomCrop, crop_hw),
    ]


def _fixed_crop_steps(
    task: str, crop_hw: tuple[int, int] | None, resize: int | None
) -> list[nn.Module]:
    steps: list[nn.Module] = [] if resize is None else [v2.Resize(resize, antialias=True)]
    if crop_hw is None:
        return steps
    return [
        *steps,
        v2.CenterCrop(crop_hw)
        if task == "classify"
        else _build_padded_crop(_CenterCropWithPadding, crop_hw),
    ]


def _build_padded_crop(crop: type[v2.RandomCrop], crop_hw: tuple[int, int]) -> nn.Module:
    return crop(
        crop_hw,
        pad_if_needed=True,
        fill={tv_tensors.Image: _MEAN_COLOUR, tv_tensors.Mask: IGNORED_LABEL},
    )


class _CenterCropWithPadding(v2.RandomCrop):
    """RandomCrop that takes the centre; a smaller image is padded equally on both sides."""

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        params: dict[str, Any] = super().make_params(flat_inputs)
        image = next(item for item in flat_inputs if isinstance(item, tv_tensors.Image))
        left, top, right, bottom = params["padding"]
        params["top"] = (image.shape[-2] + top + bottom - params["height"]) // 2
        params["left"] = (image.shape[-1] + left + right - params["width"]) // 2
        return params


def _to_tv_tensors(example: Example) -> dict[str, Any]:
    size_hw = (int(example.image.shape[-2]), int(example.image.shape[-1]))
    sample: dict[str, Any] = {**example.target, "image": tv_tensors.Image(example.image)}
    if "boxes" in sample:
        sample["boxes"] = tv_tensors.BoundingBoxes(
            sample["boxes"], format="XYXY", canvas_size=size_hw
        )
    return sample | {
        name: tv_tensors.Mask(sample[name]) for name in ("mask", "masks") if name in sample
    }


def _to_tensor(value: Tensor) -> Tensor:
    return value.as_subclass(Tensor)
