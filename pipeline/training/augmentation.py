"""Examples seen otherwise: mirrored, cropped, in other colours. By torchvision.transforms.v2."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from pipeline.inference.views import find_mirrored_keypoints
from pipeline.ops.masks import IGNORED_LABEL
from pipeline.training.data_protocols import Example
from pipeline.training.object_crop import ObjectCrop

_MEAN_COLOUR = (
    124,
    116,
    104,
)  # of ImageNet, which networks' preprocessing subtracts: what is padded becomes nothing
_DETECTION = ("detect", "instances", "keypoints")


class Augmentation:
    """`steps` take and give what `Example` has, as tv_tensors. The same seed gives the same example, in every process and
    whatever came before; the process's own random numbers are as they were afterwards. Threads of one process share those:
    they must not augment at once."""

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
        """`names` of flip, crop, colour. `crop_hw`: the size that all images of classify and segment get, so that they make
        a batch; `resize`: their shorter side before that, as the weights' preprocessing has it. Detectors take images of any
        size."""
        flip: list[nn.Module] = [RandomMirror(keypoint_names)] if "flip" in names else []
        # mild: as another lamp or camera would have it; hue for some, since it takes more time than all the rest
        hue = v2.RandomApply([v2.ColorJitter(hue=0.03)], p=0.3)
        colour: list[nn.Module] = [v2.ColorJitter(0.3, 0.3, 0.3), hue] if "colour" in names else []
        if task in _DETECTION:
            return cls([*([ObjectCrop()] if "crop" in names else []), *flip, *colour])
        size = (
            _fixed_crop_steps(task, crop_hw, resize)
            if "crop" not in names
            else _random_crop_steps(task, crop_hw, resize)
        )
        return cls([*size, *flip, *colour])  # colours last: of fewer pixels

    @classmethod
    def for_validation(
        cls, task: str, crop_hw: tuple[int, int] | None = None, resize: int | None = None
    ) -> "Augmentation":
        """As the network will see images that it is to judge: nothing by chance. Images of segment keep their shape."""
        if task in _DETECTION:
            return cls([])
        return cls(_fixed_crop_steps(task, crop_hw if task == "classify" else None, resize))

    def with_channels(self, channels: str) -> "Augmentation":
        """With the image's channels in the order that the network wants, rgb or bgr."""
        return self if channels == "rgb" else Augmentation([*self.steps, ReverseChannels()])

    def __call__(self, example: Example, seed: int) -> Example:
        if not self.steps:
            return example
        sample = _to_tv_tensors(example)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(
                seed
            )  # torch.manual_seed would also seed GPUs, and take 4 ms for it
            for step in self.steps:
                sample = step(sample)
        return Example(
            _to_tensor(sample.pop("image")),
            {name: _to_tensor(value) for name, value in sample.items()},
        )


class RandomMirror(nn.Module):
    """Half of the images with left and right exchanged; keypoints that mean left become those that mean right."""

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
    """Red, green, blue become blue, green, red."""

    def forward(self, sample: dict[str, Any]) -> dict[str, Any]:
        return sample | {"image": tv_tensors.Image(sample["image"].flip(0))}


def _random_crop_steps(
    task: str, crop_hw: tuple[int, int] | None, resize: int | None
) -> list[nn.Module]:
    """Another part of the image each time. As torchvision's references train: classification with no less than a third of
    the image, segmentation with half to twice the size."""
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
    """The middle of what RandomCrop would take a part of; what is added to a smaller image is on both sides."""

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        params: dict[str, Any] = super().make_params(flat_inputs)
        image = next(one for one in flat_inputs if isinstance(one, tv_tensors.Image))
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
