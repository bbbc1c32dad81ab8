"""The network of a detector."""

from collections.abc import Hashable, Sequence
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torch.utils import _pytree as pytree
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.ssd import SSD
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from pipeline.core.types import Outputs
from pipeline.models.networks.batched_ssd import BatchedSSD


class DetectorNetwork(nn.Module):
    """A torchvision detector whose own normalising and resizing is done beforehand, image by image, by `preprocess`.

    It is the detector's own code, so results are unchanged within rounding; but it runs in the decoding threads, and what
    waits in a batch is the network's input, not a photograph of 50 megapixels in float32.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self._published = (network,)  # in a tuple: it is no part of this module
        self.network: Any = BatchedSSD(network) if isinstance(network, SSD) else network
        # not the proposals and what follows: their number is another for each image
        found = ("network.body", "network.backbone", "network.head", "network.rpn.head")
        names = {name for name, _ in self.named_modules()}
        self.compilable = tuple(name for name in found if name in names)
        for name in {
            "network.body.head",
            "network.head",
            "network.rpn.head",
            "network.roi_heads.box_predictor",
        } & names:
            self.get_submodule(name).register_forward_hook(_in_float32)
        self.resize: Any = network.transform
        self.padding = _OnlyPad(self.resize)
        self.network.transform = self.padding
        self._resized = lru_cache(maxsize=4096)(partial(compute_resized_hw, self.resize))

    def unwrap(self) -> Any:
        """torchvision's detector as it came, to be called instead of this one, not beside it."""
        (network,) = self._published
        network.transform = self.resize
        return network

    def preprocess(self, image: Tensor) -> Tensor:
        """(3, H, W) uint8 -> (3, h, w) float32, resized and normalised. torchvision does it in the other order, at the
        photograph's size; both are linear, so the order does not matter, but to the time."""
        return self.resize.normalize(self.resize.resize(image.float(), None)[0] / 255)

    def fast_preprocess(self, image: Tensor) -> Tensor:
        """The same in uint8 (half the time, values at most one level off); normalised by the batch, later."""
        return interpolate(
            image[None], self._resized((image.shape[-2], image.shape[-1])), mode="bilinear"
        )[0]

    def bucket(self, size_hw: tuple[int, int]) -> Hashable:
        """The padded shape that an image of this size has when it is alone in its batch. Images that share it do not
        change each other's results (torchvision pads a mixed batch to its largest image)."""
        try:
            resized_hw = self._resized(size_hw)
        except ValueError:  # preprocess will say so for this image alone
            return ("not resizable", size_hw)
        unit = self.resize.size_divisible
        return tuple(-(-side // unit) * unit for side in resized_hw)

    def forward(self, inputs: Sequence[Tensor], sizes_hw: Sequence[tuple[int, int]]) -> Outputs:
        self.padding.original_sizes_hw = list(sizes_hw)
        return self.network(list(inputs))


def compute_resized_hw(
    resize: GeneralizedRCNNTransform, size_hw: tuple[int, int]
) -> tuple[int, int]:
    """The size that a detector gives an image of `size_hw`, before padding. Raises ValueError where nothing would be left of
    its shorter side: of 1 x 5000 pixels, mostly."""
    try:  # the detector's own code on a tensor without data: no copied formula, exact for every size
        height, width = resize.resize(torch.empty(3, *size_hw, device="meta"), None)[0].shape[-2:]
    except (RuntimeError, ZeroDivisionError):  # one torch says so, another divides by 0
        raise ValueError(
            "too thin: with its longer side as this model takes it, the other has no pixel left"
        ) from None
    return height, width


def _in_float32(module: nn.Module, inputs: Any, outputs: Any) -> Any:
    """Boxes are computed from these: bfloat16 has eight bits, which is three pixels in a photograph of 640."""
    return pytree.tree_map(lambda one: one.float() if one.is_floating_point() else one, outputs)


class _OnlyPad(GeneralizedRCNNTransform):
    """Pads and batches images that are already resized, and normalised or uint8; maps results back to the original sizes."""

    original_sizes_hw: list[tuple[int, int]]

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
        images = [
            image if image.is_floating_point() else self.normalize(image / 255) for image in images
        ]
        return ImageList(
            self.batch_images(images, size_divisible=self.size_divisible), sizes
        ), targets

    def postprocess(
        self,
        result: Outputs,
        image_shapes: list[tuple[int, int]],
        original_image_sizes: list[tuple[int, int]],
    ) -> Outputs:
        # Masks stay as the network gives them (N, 1, 28, 28): pasted into the original they would take 4 bytes a pixel for
        # each instance. `masks.paste` does it one by one.
        masks = [one.pop("masks", None) for one in result]
        done = super().postprocess(result, image_shapes, self.original_sizes_hw)
        return [
            one if mask is None else {**one, "masks": mask}
            for one, mask in zip(done, masks, strict=True)
        ]
