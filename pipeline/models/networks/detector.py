"""Network of a torchvision detector, whose resizing is done before the batch is formed."""

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

# Proposals and boxes are not compiled: their number differs from image to image.
_COMPILABLE = ("network.body", "network.backbone", "network.head", "network.rpn.head")
_BOX_LAYERS = (
    "network.body.head",
    "network.head",
    "network.rpn.head",
    "network.roi_heads.box_predictor",
)


class DetectorNetwork(nn.Module):
    """Run a torchvision detector on a batch of images that `preprocess` has prepared.

    Preprocessing uses the detector's own code, so results are unchanged within rounding. It runs
    in the decoding threads, and a waiting batch holds network inputs instead of photographs of 50
    megapixels in float32.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self._original = (network,)  # a tuple, so that it is not registered as a submodule
        self.network: Any = BatchedSSD(network) if isinstance(network, SSD) else network
        names = {name for name, _ in self.named_modules()}
        self.compilable = tuple(name for name in _COMPILABLE if name in names)
        for name in names.intersection(_BOX_LAYERS):
            self.get_submodule(name).register_forward_hook(_convert_to_float32)

        self.resize: Any = network.transform
        self.padding = _PaddingTransform(self.resize)
        self.network.transform = self.padding
        self._resized_hw = lru_cache(maxsize=4096)(partial(compute_resized_hw, self.resize))

    def unwrap(self) -> Any:
        """Return torchvision's detector as it was; this object must not be called afterwards."""
        (network,) = self._original
        network.transform = self.resize
        return network

    def preprocess(self, image: Tensor) -> Tensor:
        """Resize and normalise: (3, H, W) uint8 -> (3, h, w) float32.

        torchvision normalises first, at the photograph's size. Both operations are linear, so the
        order changes the time, not the result.
        """
        return self.resize.normalize(self.resize.resize(image.float(), None)[0] / 255)

    def fast_preprocess(self, image: Tensor) -> Tensor:
        """Resize in uint8: (3, H, W) -> (3, h, w); the batch is normalised later.

        This takes half the time of `preprocess`, and values differ by at most one level.
        """
        resized_hw = self._resized_hw((image.shape[-2], image.shape[-1]))
        return interpolate(image[None], resized_hw, mode="bilinear")[0]

    def compute_bucket(self, size_hw: tuple[int, int]) -> Hashable:
        """Return the padded shape that an image of this size has when it is alone in its batch.

        torchvision pads a mixed batch to its largest image. Images of one padded shape do not
        change each other's results.
        """
        try:
            resized_hw = self._resized_hw(size_hw)
        except ValueError:  # `preprocess` reports it for this image alone
            return ("not resizable", size_hw)
        unit = self.resize.size_divisible
        return tuple(-(-side // unit) * unit for side in resized_hw)

    def forward(self, inputs: Sequence[Tensor], sizes_hw: Sequence[tuple[int, int]]) -> Outputs:
        self.padding.original_sizes_hw = list(sizes_hw)
        return self.network(list(inputs))


def compute_resized_hw(
    resize: GeneralizedRCNNTransform, size_hw: tuple[int, int]
) -> tuple[int, int]:
    """Return the size that a detector gives an image of `size_hw`, before padding.

    Raises:
        ValueError: The resized image would have no pixel on its shorter side.
    """
    # The detector's own code on the meta device is exact for every size; no formula is copied.
    image = torch.empty(3, *size_hw, device="meta")
    try:
        height, width = resize.resize(image, None)[0].shape[-2:]
    except (RuntimeError, ZeroDivisionError):  # versions of torch raise different errors
        raise ValueError(
            "too thin: with its longer side as this model takes it, the other has no pixel left"
        ) from None
    return height, width


def _convert_to_float32(module: nn.Module, inputs: Any, outputs: Any) -> Any:
    """Convert outputs that boxes are computed from.

    bfloat16 has eight significant bits, which is an error of three pixels in 640.
    """
    return pytree.tree_map(
        lambda values: values.float() if values.is_floating_point() else values, outputs
    )


class _PaddingTransform(GeneralizedRCNNTransform):
    """Pad and batch resized images, and map results back to the original sizes.

    The images are normalised floats, or uint8, which are normalised here.
    """

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
        sizes_hw = [(image.shape[-2], image.shape[-1]) for image in images]
        images = [
            image if image.is_floating_point() else self.normalize(image / 255) for image in images
        ]
        batch = self.batch_images(images, size_divisible=self.size_divisible)
        return ImageList(batch, sizes_hw), targets

    def postprocess(
        self,
        result: Outputs,
        image_shapes: list[tuple[int, int]],
        original_image_sizes: list[tuple[int, int]],
    ) -> Outputs:
        # Masks stay (N, 1, 28, 28), as the network gives them. Pasted into the original, each
        # would take 4 bytes a pixel; `ops.masks` pastes them one by one.
        masks = [output.pop("masks", None) for output in result]
        outputs = super().postprocess(result, image_shapes, self.original_sizes_hw)
        return [
            output if image_masks is None else {**output, "masks": image_masks}
            for output, image_masks in zip(outputs, masks, strict=True)
        ]
