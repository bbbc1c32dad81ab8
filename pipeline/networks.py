"""Networks behind one call: `network(inputs, sizes_hw)` -> one dict per image (see `types.Model`)."""

from collections.abc import Hashable, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from pipeline.types import Outputs

SizeHW = tuple[int, int]


class Classifier(nn.Module):
    """(B, 3, H, W) -> logits."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, inputs: Sequence[Tensor], sizes_hw: Sequence[SizeHW]) -> Outputs:
        return [{"logits": logits} for logits in self.network(torch.stack(list(inputs)))]


class Detector(nn.Module):
    """A torchvision detector whose own normalising and resizing is done beforehand, image by image, by `preprocess`.

    It is the detector's own code on the same values, so results are unchanged; but it runs in the decoding threads, and
    what waits in a batch is the network's input, not a photograph of 50 megapixels in float32.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.resize: Any = network.transform
        self.padding = _OnlyPad(self.resize)
        network.transform = self.padding
        self._bucket = lru_cache(maxsize=4096)(self._padded_hw)

    def preprocess(self, image: Tensor) -> Tensor:
        """(3, H, W) float32 in 0..1 -> (3, h, w) normalised and resized."""
        return self.resize.resize(self.resize.normalize(image), None)[0]

    def bucket(self, size_hw: SizeHW) -> Hashable:
        """The padded shape that an image of this size has when it is alone in its batch. Images that share it do not
        change each other's results (torchvision pads a mixed batch to its largest image)."""
        return self._bucket(size_hw)

    def forward(self, inputs: Sequence[Tensor], sizes_hw: Sequence[SizeHW]) -> Outputs:
        self.padding.original_sizes_hw = list(sizes_hw)
        return self.network(list(inputs))

    def _padded_hw(self, size_hw: SizeHW) -> Hashable:
        # the model's own code on a tensor without data: no copied formula, exact for every size
        try:
            resized = self.resize.resize(torch.empty(3, *size_hw, device="meta"), None)[0]
        except RuntimeError:  # e.g. 1 x 5000 pixels resized to 0 rows; preprocess will say so for this image alone
            return ("not resizable", size_hw)
        unit = self.resize.size_divisible
        return tuple(-(-side // unit) * unit for side in resized.shape[-2:])


class _OnlyPad(GeneralizedRCNNTransform):
    """Pads and batches images that are already normalised and resized; maps results back to the original sizes."""

    original_sizes_hw: list[SizeHW]

    def __init__(self, resize: GeneralizedRCNNTransform) -> None:
        super().__init__(
            resize.min_size,
            resize.max_size,
            resize.image_mean,
            resize.image_std,
            resize.size_divisible,
            resize.fixed_size,
        )

    def forward(
        self, images: list[Tensor], targets: list[dict[str, Tensor]] | None = None
    ) -> tuple[ImageList, list[dict[str, Tensor]] | None]:
        sizes = [(image.shape[-2], image.shape[-1]) for image in images]
        return ImageList(self.batch_images(images, size_divisible=self.size_divisible), sizes), targets

    def postprocess(self, result: Outputs, image_shapes: list[SizeHW], original_image_sizes: list[SizeHW]) -> Outputs:
        return super().postprocess(result, image_shapes, self.original_sizes_hw)
