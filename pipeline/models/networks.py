"""Networks behind one call: `network(inputs, sizes_hw)` -> one dict per image (see `types.Model`)."""

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.ao.nn import quantized
from torch.nn.functional import interpolate
from torch.utils import _pytree as pytree
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.ssd import SSD
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from pipeline.core.types import Outputs
from pipeline.models.batched_ssd import BatchedSSD

SizeHW = tuple[int, int]
_HEADS = (nn.Linear, nn.Conv2d, nn.Conv3d, quantized.Linear)


class Classifier(nn.Module):
    """{logits: (C,), embedding: (D,)} for each image; the embedding is what the classifying layer gets."""

    compilable = ("body",)

    def __init__(self, network: nn.Module, normalize: nn.Module | None = None) -> None:
        """`normalize`: what is left of the preprocessing, for a whole batch."""
        super().__init__()
        self.body = _Classifying(network, normalize or nn.Identity())

    def forward(self, inputs: Sequence[Tensor], sizes_hw: Sequence[SizeHW]) -> Outputs:
        logits, before = self.body(torch.stack(list(inputs)))
        embeddings = (
            before.flatten(2).mean(dim=2) if before.dim() > 2 else before
        )  # some classify by a convolution
        return [
            {"logits": one, "embedding": vector}
            for one, vector in zip(logits, embeddings, strict=True)
        ]

    def bucket(self, size_hw: SizeHW) -> Hashable:
        """One for all: preprocessing crops to one size."""
        return None


class _Classifying(nn.Module):
    """(B, 3, H, W), or (B, 3, T, H, W) -> logits (B, C), and what the layer that gave them got."""

    def __init__(self, network: nn.Module, normalize: nn.Module) -> None:
        super().__init__()
        self.network, self.normalize = network, normalize
        self._before_head: Tensor | None = None
        find_head(network).register_forward_pre_hook(self._keep_input)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.network(self.normalize(images))
        before, self._before_head = self._before_head, None
        if before is None:
            raise RuntimeError("the network did not call its classifying layer")
        return logits, before

    def _keep_input(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        before = inputs[0]
        self._before_head = before.dequantize() if before.is_quantized else before


@contextmanager
def without_data() -> Iterator[None]:
    """Networks built inside have shapes but no memory. Parameters and buffers go to the meta device one by one as they are
    registered; building under `torch.device("meta")` instead would fail for RegNet, which computes with tensors."""
    parameter, buffer = nn.Module.register_parameter, nn.Module.register_buffer

    def hollow_parameter(module: nn.Module, name: str, value: nn.Parameter | None) -> None:
        parameter(
            module,
            name,
            None if value is None else nn.Parameter(value.to("meta"), requires_grad=False),
        )

    def hollow_buffer(
        module: nn.Module, name: str, value: Tensor | None, persistent: bool = True
    ) -> None:
        buffer(module, name, None if value is None else value.to("meta"), persistent)

    nn.Module.register_parameter, nn.Module.register_buffer = hollow_parameter, hollow_buffer  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        nn.Module.register_parameter, nn.Module.register_buffer = parameter, buffer  # type: ignore[method-assign]


def find_head(network: nn.Module) -> nn.Linear | nn.Conv2d | nn.Conv3d | quantized.Linear:
    """The layer that gives the logits: the last linear or convolutional one that is no auxiliary head."""
    layers = [
        module
        for name, module in network.named_modules()
        if isinstance(module, _HEADS) and not name.casefold().startswith("aux")
    ]
    if not layers:
        raise ValueError(f"{type(network).__name__} has no linear or convolutional layer")
    return layers[-1]


class Segmenter(nn.Module):
    """{probabilities: (C, h, w)} for each image, at the size that the network works at."""

    compilable = ("body",)

    def __init__(
        self,
        network: nn.Module,
        preprocess: Callable[[Tensor], Tensor],
        normalize: nn.Module | None = None,
    ) -> None:
        """`preprocess` makes the inputs; `normalize`: what is left of it, for a whole batch."""
        super().__init__()
        self.body = nn.Sequential(normalize or nn.Identity(), network)
        self._preprocess = preprocess
        self._bucket = lru_cache(maxsize=4096)(self._input_hw)

    def forward(self, inputs: Sequence[Tensor], sizes_hw: Sequence[SizeHW]) -> Outputs:
        logits = self.body(torch.stack(list(inputs)))["out"]  # (B, C, h, w)
        return [{"probabilities": one} for one in logits.softmax(dim=1)]

    def bucket(self, size_hw: SizeHW) -> Hashable:
        """The input's size: it is neither cropped nor padded."""
        return self._bucket(size_hw)

    def _input_hw(self, size_hw: SizeHW) -> Hashable:
        try:
            return tuple(
                self._preprocess(torch.empty(3, *size_hw, dtype=torch.uint8, device="meta")).shape[
                    -2:
                ]
            )
        except (RuntimeError, ValueError):
            return ("not resizable", size_hw)


class Detector(nn.Module):
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
        self._resized = lru_cache(maxsize=4096)(partial(resized_hw, self.resize))

    def published(self) -> Any:
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

    def bucket(self, size_hw: SizeHW) -> Hashable:
        """The padded shape that an image of this size has when it is alone in its batch. Images that share it do not
        change each other's results (torchvision pads a mixed batch to its largest image)."""
        try:
            resized_hw = self._resized(size_hw)
        except ValueError:  # preprocess will say so for this image alone
            return ("not resizable", size_hw)
        unit = self.resize.size_divisible
        return tuple(-(-side // unit) * unit for side in resized_hw)

    def forward(self, inputs: Sequence[Tensor], sizes_hw: Sequence[SizeHW]) -> Outputs:
        self.padding.original_sizes_hw = list(sizes_hw)
        return self.network(list(inputs))


def resized_hw(resize: GeneralizedRCNNTransform, size_hw: SizeHW) -> SizeHW:
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
        images = [
            image if image.is_floating_point() else self.normalize(image / 255) for image in images
        ]
        return ImageList(
            self.batch_images(images, size_divisible=self.size_divisible), sizes
        ), targets

    def postprocess(
        self, result: Outputs, image_shapes: list[SizeHW], original_image_sizes: list[SizeHW]
    ) -> Outputs:
        # Masks stay as the network gives them (N, 1, 28, 28): pasted into the original they would take 4 bytes a pixel for
        # each instance. `masks.paste` does it one by one.
        masks = [one.pop("masks", None) for one in result]
        done = super().postprocess(result, image_shapes, self.original_sizes_hw)
        return [
            one if mask is None else {**one, "masks": mask}
            for one, mask in zip(done, masks, strict=True)
        ]
