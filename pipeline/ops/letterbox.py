"""Letterbox images: resize an image into a rectangle and pad what remains.

YOLO networks are trained on images that OpenCV has resized. `resize_bilinear` gives OpenCV's
values, bit for bit (a test compares them), because other kernels change scores by up to 0.09.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

_PADDING = 114  # the grey of the padding, in each channel
_WEIGHT_BITS = 11  # OpenCV's fixed-point weights: 2048 is 1.0


@dataclass(frozen=True)
class Letterbox:
    """Position and scale of one image in the network's input.

    Attributes:
        image_hw: Height and width of the image, in pixels.
        input_hw: Height and width of the network's input.
        content_hw: Height and width of the resized image within the input.
        gains_xy: Scale from the image to the input, along x and y.
        top: Rows of padding above the content.
        left: Columns of padding left of the content.
    """

    image_hw: tuple[int, int]
    input_hw: tuple[int, int]
    content_hw: tuple[int, int]
    gains_xy: tuple[float, float]
    top: int = 0
    left: int = 0

    @classmethod
    def fit(
        cls, image_hw: tuple[int, int], target_hw: tuple[int, int], stride: int | None = None
    ) -> "Letterbox":
        """Fit an image into a rectangle and keep its aspect ratio.

        Args:
            image_hw: Height and width of the image.
            target_hw: Height and width of the rectangle.
            stride: Pad each side only to the next multiple of this. None: fill the rectangle.
        """
        gain = min(target_hw[0] / image_hw[0], target_hw[1] / image_hw[1])
        height, width = (max(1, round(side * gain)) for side in image_hw)
        spare = (target_hw[0] - height, target_hw[1] - width)
        if stride:
            spare = (spare[0] % stride, spare[1] % stride)
        # An odd row or column of padding goes below or right of the content.
        top, left = (round(pixels / 2 - 0.1) for pixels in spare)
        input_hw = (height + spare[0], width + spare[1])
        # The sides are rounded to pixels, so the scales along x and y differ a little.
        gains_xy = (width / image_hw[1], height / image_hw[0])
        return cls(image_hw, input_hw, (height, width), gains_xy, top, left)

    @classmethod
    def stretch(cls, image_hw: tuple[int, int], input_hw: tuple[int, int]) -> "Letterbox":
        """Fill the input with the image, whatever its aspect ratio."""
        gains_xy = (input_hw[1] / image_hw[1], input_hw[0] / image_hw[0])
        return cls(image_hw, input_hw, input_hw, gains_xy)

    def apply(self, image: Tensor) -> Tensor:
        """Resize and pad an image: (3, H, W) uint8 -> (3, h, w) uint8."""
        height, width = self.content_hw
        content = resize_bilinear(image, height, width)
        if self.content_hw == self.input_hw:
            return content
        canvas = image.new_full((len(image), *self.input_hw), _PADDING)
        canvas[:, self.top : self.top + height, self.left : self.left + width] = content
        return canvas

    def restore_points(self, xy: Tensor) -> Tensor:
        """Map points (..., 2) from the network's input to pixels of the image, and clip them."""
        moved = (xy - xy.new_tensor([self.left, self.top])) / xy.new_tensor(self.gains_xy)
        return moved.clamp(min=0).minimum(xy.new_tensor(self.image_hw[::-1]))

    def restore_boxes(self, boxes_xyxy: Tensor) -> Tensor:
        """Map boxes (N, 4) xyxy from the network's input to pixels of the image, and clip them."""
        return self.restore_points(boxes_xyxy.reshape(-1, 2, 2)).reshape(-1, 4)


def resize_bilinear(image: Tensor, height: int, width: int) -> Tensor:
    """Resize an image as `cv2.resize` does by default: (3, H, W) uint8 -> (3, height, width).

    OpenCV resizes rows first, then columns, in integers. At exactly half the size it takes the mean
    of four pixels.
    """
    rows, columns = image.shape[1:]
    if (rows, columns) == (height, width):
        return image
    if (rows, columns) == (2 * height, 2 * width):
        pixels = image.int()
        total = pixels[:, ::2, ::2] + pixels[:, 1::2, ::2]
        total += pixels[:, ::2, 1::2] + pixels[:, 1::2, 1::2]
        return ((total + 2) >> 2).byte()

    upper, lower, upper_weights, lower_weights = _find_neighbours(height, rows)
    left, right, left_weights, right_weights = _find_neighbours(width, columns)
    # OpenCV gives the outermost columns the whole weight, but not the outermost rows.
    outside = left == right
    left_weights[outside], right_weights[outside] = 1 << _WEIGHT_BITS, 0

    needed, positions = torch.unique(torch.cat([upper, lower]), return_inverse=True)
    source = image[:, needed].int()
    narrow = source[:, :, left] * left_weights + source[:, :, right] * right_weights
    narrow >>= 4
    above = (narrow[:, positions[:height]] * upper_weights[:, None]) >> 16
    below = (narrow[:, positions[height:]] * lower_weights[:, None]) >> 16
    return ((above + below + 2) >> 2).clamp(0, 255).byte()


def _find_neighbours(n_out: int, n_in: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return both neighbours of each output pixel along one axis, and their integer weights."""
    scale = 1.0 / (n_out / n_in)
    position = ((torch.arange(n_out, dtype=torch.float64) + 0.5) * scale - 0.5).float()
    first = position.floor()
    share = position - first
    one = 1 << _WEIGHT_BITS
    weights = [torch.round((1 - share) * one).int(), torch.round(share * one).int()]
    last = n_in - 1
    return first.long().clamp(0, last), (first.long() + 1).clamp(0, last), weights[0], weights[1]
