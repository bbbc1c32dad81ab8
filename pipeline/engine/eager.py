"""The network as PyTorch runs it, operator by operator."""

from collections.abc import Sequence

import torch
from torch import Tensor

from pipeline.errors import ConfigError, PipelineError
from pipeline.types import Model, Outputs

_PRECISIONS = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


class Eager:
    """`device`: auto, cpu, cuda, cuda:N, mps. `precision`: fp32, or bf16 / fp16 by autocast (outputs are float32)."""

    def __init__(self, device: str, precision: str) -> None:
        self.chosen = device != "auto"
        self.device = resolve_device(device)
        self.autocast = _PRECISIONS[precision]

    def prepare(self, model: Model) -> None:
        if self.autocast and model.full_precision_only:
            raise ConfigError("This model runs at its own precision; leave precision=fp32.")
        if model.cpu_only and self._device_type != "cpu":
            if self.chosen:
                raise ConfigError(f"device={self.device}: this model runs on the CPU only; say device=cpu, or leave it out.")
            self.device = "cpu"
        self.network = model.network.eval().to(self.device)
        if model.channels_last:
            self.network = self.network.to(memory_format=torch.channels_last)

    def forward(self, inputs: Sequence[Tensor], sizes_hw: Sequence[tuple[int, int]]) -> Outputs:
        """(3, H, W) float32 CPU tensors -> one dict per image, on the CPU. Raises what the network raises."""
        with (
            torch.inference_mode(),
            torch.autocast(self._device_type, self.autocast, enabled=self.autocast is not None),
        ):
            on_device = [pixels.to(self.device, non_blocking=True) for pixels in inputs]
            outputs = self.network(on_device, sizes_hw)
        if len(outputs) != len(inputs):
            raise PipelineError(f"The model returned {len(outputs)} results for {len(inputs)} images.")
        return [
            {name: value.float().cpu() if value.is_floating_point() else value.cpu() for name, value in one.items()}
            for one in outputs
        ]

    @property
    def _device_type(self) -> str:
        return torch.device(self.device).type


def resolve_device(wanted: str) -> str:
    """`auto` is the best this machine has; any other name must exist here."""
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    kind, _, index = wanted.partition(":")
    here = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if kind not in here or (index and not index.isdigit()):
        raise ConfigError(f"device={wanted}: expected auto, cpu, cuda, cuda:N or mps.")
    if int(index or 0) >= here[kind]:
        raise ConfigError(f"device={wanted}: this machine has {here[kind]} such devices. Say device=auto or device=cpu.")
    return wanted
