"""The model as a tutorial uses it: torchvision's own calls, one after the other, nothing of this pipeline around them."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.functional import convert_image_dtype

from pipeline.bench.repeated import Repeated
from pipeline.networks import Classifier, Detector, Segmenter
from pipeline.types import Format, InputError

Sized = tuple[Tensor, tuple[int, int]]  # the model's input, and the size of the image it was made of


class Tutorial(Dataset[Sized]):
    """`tutorial[i]` reads and prepares an image, `predict` is the model's call on a list of them."""

    def __init__(self, model_format: Format, source: Repeated, max_pixels: int, device: str) -> None:
        self.source, self.max_pixels, self.device = source, max_pixels, device
        model = model_format.load()
        self.prepare: Callable[[Tensor], Tensor] = model.preprocess
        self.call: Callable[[list[Tensor], list[tuple[int, int]]], object] = model.network
        wrapped = model.network.eval().to(device)
        if isinstance(wrapped, Detector):
            network = wrapped.network
            network.transform = wrapped.resize  # its own, which the wrapper has taken out
            self.prepare, self.call = convert_image_dtype, lambda images, sizes: network(images)
        elif isinstance(wrapped, Classifier | Segmenter):
            inner = wrapped.body.network if isinstance(wrapped, Classifier) else wrapped.body[1]
            self.prepare = model_format.transform  # type: ignore[attr-defined]
            self.call = lambda images, sizes: inner(torch.stack(images))

    def __len__(self) -> int:
        return len(self.source.listed)

    def __getitem__(self, index: int) -> Sized:
        """Raises InputError and OSError: a benchmark wants images that can be read."""
        (pixels,) = self.source.read([self.source.listed[index]], self.max_pixels, lambda stage: nullcontext())
        if isinstance(pixels, InputError | OSError):
            raise pixels
        return self.prepare(pixels), (pixels.shape[-2], pixels.shape[-1])

    def predict(self, batch: Sequence[Sized]) -> object:
        with torch.inference_mode():
            return self.call([pixels.to(self.device) for pixels, _ in batch], [size_hw for _, size_hw in batch])
