"""A model used as in tutorials: through torchvision's own calls, without the pipeline."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.functional import convert_image_dtype

from pipeline.core.protocols import Format
from pipeline.core.types import InputError, Model
from pipeline.models.networks.classifier import ClassifierNetwork
from pipeline.models.networks.detector import DetectorNetwork
from pipeline.models.networks.segmenter import SegmenterNetwork
from pipeline.runs.bench.repeated_inputs import RepeatedSource

# The model's input, and (height, width) of the original image.
SizedInput = tuple[Tensor, tuple[int, int]]
Prepare = Callable[[Tensor], Tensor]


class PlainReader(Dataset[SizedInput]):
    """A data set that reads, decodes and preprocesses an item when it is requested."""

    def __init__(self, source: RepeatedSource, max_pixels: int, prepare: Prepare) -> None:
        self.source, self.max_pixels, self.prepare = source, max_pixels, prepare

    def __len__(self) -> int:
        return len(self.source.listed)

    def __getitem__(self, index: int) -> SizedInput:
        """Return an input. Raises InputError and OSError: a benchmark needs readable images."""
        (pixels,) = self.source.read(
            [self.source.listed[index]], self.max_pixels, lambda stage: nullcontext()
        )
        if isinstance(pixels, InputError | OSError):
            raise pixels
        return self.prepare(pixels), (pixels.shape[-2], pixels.shape[-1])


class PlainModel:
    """A model and the data set `reader` of its inputs. `predict` runs it on a list of inputs."""

    def __init__(
        self, model_format: Format, source: RepeatedSource, max_pixels: int, device: str
    ) -> None:
        self.device = device
        model = model_format.load()
        model.network.eval().to(device)
        prepare, self.call = _get_published_calls(model_format, model)
        self.reader = PlainReader(source, max_pixels, prepare)

    def predict(self, batch: Sequence[SizedInput]) -> Any:
        with torch.inference_mode():
            return self.call(
                [pixels.to(self.device) for pixels, _ in batch], [size_hw for _, size_hw in batch]
            )


def _get_published_calls(model_format: Format, model: Model) -> tuple[Prepare, Callable[..., Any]]:
    """Return preprocessing and call: torchvision's own for its builders, else the pipeline's."""
    wrapped = model.network
    if isinstance(wrapped, DetectorNetwork):
        detector = wrapped.unwrap()
        return (
            lambda image: convert_image_dtype(image, torch.float32),
            lambda images, sizes_hw: detector(images),
        )
    if isinstance(wrapped, ClassifierNetwork | SegmenterNetwork) and hasattr(
        model_format, "transform"
    ):
        network: Any = (
            wrapped.body.network if isinstance(wrapped, ClassifierNetwork) else wrapped.body[1]
        )
        return model_format.transform, lambda images, sizes_hw: network(torch.stack(images))
    return model.preprocess, wrapped
