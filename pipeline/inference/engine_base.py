"""Base class of the engines: a device, a precision, and the forward pass."""

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
    """Runs a network eagerly on one device.

    Args:
        device: auto, cpu, cuda, cuda:N or mps.
        precision: fp32, or bf16 or fp16 by autocast. Outputs are float32 in any case.
    """

    tf32: ClassVar[bool] = False  # on GPUs: round the factors of float32 products to ten bits
    exact_precisions: ClassVar[frozenset[str]] = frozenset({"fp32"})
    compiles = False

    def __init__(self, device: str, precision: str) -> None:
        self.is_device_chosen = device != "auto"
        self.device = resolve_device(device)
        self.precision = precision

    @property
    def is_exact(self) -> bool:
        return self.precision in self.exact_precisions

    @property
    def identity(self) -> Mapping[str, str]:
        return {"precision": self.precision}

    @property
    def device_type(self) -> str:
        """The device without its index: cpu, cuda or mps."""
        return torch.device(self.device).type

    def prepare(self, model: Model) -> Model:
        if model.full_precision_only and self.precision != "fp32":
            raise ConfigError(
                f"This model runs at its own precision, not at precision={self.precision}; "
                "leave that out."
            )
        if model.cpu_only and self.device_type != "cpu":
            if self.is_device_chosen:
                raise ConfigError(
                    f"device={self.device}: this model runs on the CPU only; "
                    "say device=cpu, or leave it out."
                )
            self.device = "cpu"
        self.network = optimize_network(model.network.eval()).to(self.device)
        if dtype := AUTOCAST[self.precision]:
            convert_weights(self.network, dtype)
        return model

    def prepare_for_run(self, images: int, batch_size: int) -> None:
        """Do nothing: an eager engine needs no preparation."""

    def make_uploader(self) -> Callable[[Sequence[Tensor]], list[Tensor]] | None:
        return Uploader(self.device).upload if self.device_type == "cuda" else None

    def forward(self, inputs: Sequence[Tensor], sizes_hw: Sequence[tuple[int, int]]) -> Outputs:
        """Run the network on one batch.

        Args:
            inputs: (3, h, w) tensors as `preprocess` makes them, on any device.
            sizes_hw: size of each view in pixels of the upright original.

        Returns:
            One dict per input, on the CPU.

        Raises:
            PipelineError: The number of results differs from the number of inputs.
            Exception: whatever the network raises.
        """
        dtype = AUTOCAST[self.precision]
        # Set the flags in every call, because they are global and a process may have several
        # engines.
        if self.device_type == "cuda":
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
