"""A random crop that cuts no object in half."""

from typing import Any

import torch
from torch import Tensor, nn
from torchvision import tv_tensors
from torchvision.ops import box_area

_CROPPED_SHARE = 0.7  # share of the images that are cropped; the others stay whole
_TRIALS = 20
_LEAST_SIDE = 0.4  # shortest side of a window, as a share of the image's side
_MOST_STRETCHED = 2.0  # largest ratio between the aspects of the window and the image
_VISIBLE, _GONE = (
    0.6,
    0.2,
)  # visible shares of an object: kept from the first on, dropped up to the second
_LEAST_PIXELS = 2.0  # shortest side of a cut object, unless it was shorter before


class ObjectCrop(nn.Module):
    """Crop like SSD's sampling (torchvision's RandomIoUCrop), with another rule for cut objects.

    An object is kept if the window shows at least 60 % of its box, and dropped if the window shows
    at most 20 %. A window with an object in between is rejected, so that half an object is learned
    neither as an object nor as background. At least one object must remain if the image has any.
    The image stays whole if twenty windows are rejected.
    """

    def forward(self, sample: dict[str, Any]) -> dict[str, Any]:
        if torch.rand(()) >= _CROPPED_SHARE:
            return sample
        size_hw = (int(sample["image"].shape[-2]), int(sample["image"].shape[-1]))
        boxes = sample["boxes"].as_subclass(Tensor)
        for _ in range(_TRIALS):
            window = _draw_window(size_hw)
            visible = _visible_share(boxes, window)
            kept = visible >= _VISIBLE
            if bool((kept | (visible <= _GONE)).all()) and (bool(kept.any()) or not len(boxes)):
                return _crop_sample(sample, window, kept, visible < 1)
        return sample


def _draw_window(size_hw: tuple[int, int]) -> tuple[int, int, int, int]:
    """Draw a window (left, top, right, bottom) inside the image, at least one pixel in size."""
    while True:
        parts = _LEAST_SIDE + (1 - _LEAST_SIDE) * torch.rand(2)
        if 1 / _MOST_STRETCHED <= float(parts[0] / parts[1]) <= _MOST_STRETCHED:
            break
    height, width = (
        max(1, int(side * float(part))) for side, part in zip(size_hw, parts, strict=True)
    )
    top = int(torch.randint(0, size_hw[0] - height + 1, ()))
    left = int(torch.randint(0, size_hw[1] - width + 1, ()))
    return left, top, left + width, top + height


def _visible_share(boxes: Tensor, window: tuple[int, int, int, int]) -> Tensor:
    """Return the share of each box's area inside the window: (N, 4) xyxy -> (N,)."""
    left, top, right, bottom = window
    shown = boxes.clamp(
        boxes.new_tensor([left, top, left, top]), boxes.new_tensor([right, bottom, right, bottom])
    )
    return box_area(shown) / box_area(boxes)


def _crop_sample(
    sample: dict[str, Any], window: tuple[int, int, int, int], kept: Tensor, cut: Tensor
) -> dict[str, Any]:
    """Crop a sample to the window.

    A cut object gets the box around the visible part of its mask. It is dropped if that part is
    empty or only a line. Keypoints outside the window become unlabelled.

    Args:
        sample: The fields of an example as tv_tensors.
        window: (left, top, right, bottom).
        kept: (N,) bool, objects to keep.
        cut: (N,) bool, objects that the window cuts.
    """
    left, top, right, bottom = window
    cut, size_hw = cut[kept], (bottom - top, right - left)
    boxes = sample["boxes"].as_subclass(Tensor)[kept]
    least = _box_sides(boxes).clamp(max=_LEAST_PIXELS)
    limits = boxes.new_tensor([right - left, bottom - top] * 2)
    boxes = (boxes - boxes.new_tensor([left, top, left, top])).clamp(
        torch.zeros_like(limits), limits
    )
    target = {
        name: sample[name].as_subclass(Tensor)[kept]
        for name in ("labels", "masks", "keypoints")
        if name in sample
    }
    if "masks" in target:
        target["masks"] = target["masks"][:, top:bottom, left:right]
        boxes = torch.where(cut[:, None], _boxes_around(target["masks"]), boxes)
    if "keypoints" in target:
        points = target["keypoints"] - boxes.new_tensor([left, top, 0])
        inside = ((points[..., :2] >= 0) & (points[..., :2] <= limits[:2])).all(dim=-1) & (
            points[..., 2] > 0
        )
        target["keypoints"] = points * inside[..., None]
    large = (_box_sides(boxes) >= least).all(dim=1) | ~cut
    target = {name: value[large] for name, value in target.items()}
    if "masks" in target:
        target["masks"] = tv_tensors.Mask(target["masks"])
    image = tv_tensors.Image(sample["image"].as_subclass(Tensor)[:, top:bottom, left:right])
    return target | {
        "image": image,
        "boxes": tv_tensors.BoundingBoxes(boxes[large], format="XYXY", canvas_size=size_hw),
    }


def _box_sides(boxes: Tensor) -> Tensor:
    """Return widths and heights: (N, 4) xyxy -> (N, 2)."""
    return boxes[:, 2:] - boxes[:, :2]


def _boxes_around(masks: Tensor) -> Tensor:
    """Return the boxes around masks: (N, H, W) -> (N, 4) float32 xyxy. Empty masks: empty boxes."""
    rows, columns = (masks > 0).any(dim=2), (masks > 0).any(dim=1)  # (N, H), (N, W)
    sides = []
    for seen in (columns, rows):
        first = seen.int().argmax(dim=1)
        last = seen.shape[1] - seen.flip(1).int().argmax(dim=1)
        sides.append((first, torch.where(seen.any(dim=1), last, first)))
    (x_min, x_max), (y_min, y_max) = sides
    return torch.stack([x_min, y_min, x_max, y_max], dim=1).float()
