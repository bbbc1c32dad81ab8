"""What engines have in common: a device, a precision, and a network in the hands of both."""

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from pipeline.core.errors import ConfigError, PipelineError
from pipeline.core.types import Model, Outputs
from pipeline.inference.devices import Uploader, copy_to_cpu, resolve_device
from pipeline.inference.fusion import convert_weights, optimize_network

AUTOCAST = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


class BaseEngine:
    """`device`: auto, cpu, cuda, cuda:N, mps. `precision`: fp32, or bf16 / fp16 by autocast (outputs are float32)."""

    tf32: ClassVar[bool] = False  # on GPUs: float32 products rounded to ten bits
    exact_at: ClassVar[frozenset[str]] = frozenset(
        {"fp32"}
    )  # precisions at which results are those of the plain loop

    def __init__(self, device: str, precision: str) -> None:
        self.chosen = device != "auto"
        self.device = resolve_device(device)
        self.precision = precision

    @property
    def exact(self) -> bool:
        return self.precision in self.exact_at

    @property
    def identity(self) -> Mapping[str, str]:
        return {"precision": self.precision}

    def prepare(self, model: Model) -> Model:
        if model.full_precision_only and self.precision != "fp32":
            raise ConfigError(
                f"This model runs at its own precision, not at precision={self.precision}; leave that out."
            )
        if model.cpu_only and self.device_type != "cpu":
            if self.chosen:
                raise ConfigError(
                    f"device={self.device}: this model runs on the CPU only; say device=cpu, or leave it out."
                )
            self.device = "cpu"
        self.network = optimize_network(model.network.eval()).to(self.device)
        if dtype := AUTOCAST[self.precision]:
            convert_weights(self.network, dtype)
        return model

    def expect(self, images: int, batch_size: int) -> None:
        """Nothing is made ready for so many images."""

    def uploader(self) -> Callable[[Sequence[Tensor]], list[Tensor]] | None:
        return Uploader(self.device).upload if self.device_type == "cuda" else None

    def forward(self, inputs: Sequence[Tensor], sizes_hw: Sequence[tuple[int, int]]) -> Outputs:
        """(3, h, w) tensors as `preprocess` makes them, wherever they are -> one dict per image, on the CPU. Raises what the
        network raises."""
        dtype = AUTOCAST[self.precision]
        if (
            self.device_type == "cuda"
        ):  # at every call: these hold for the whole process, which may have several engines
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = self.tf32
        with (
            torch.inference_mode(),
            torch.autocast(self.device_type, dtype, enabled=dtype is not None),
        ):
            on_device = [pixels.to(self.device, non_blocking=True) for pixels in inputs]
            outputs = self.network(on_device, sizes_hw)
            if len(outputs) != len(inputs):
                raise PipelineError(
                    f"The model returned {len(outputs)} results for {len(inputs)} images."
                )
            return copy_to_cpu(outputs)

    @property
    def device_type(self) -> str:
        return torch.device(self.device).type
