"""Devices: which there are, how inputs get there and outputs come back."""

from collections.abc import Sequence

import torch
from torch import Tensor

from pipeline.core.errors import ConfigError
from pipeline.core.types import Output, Outputs


def resolve_device(wanted: str) -> str:
    """`auto` is the best this machine has; any other name must exist here."""
    if wanted == "auto":
        return (
            "cuda"
            if torch.cuda.is_available()
            else "mps"
            if torch.backends.mps.is_available()
            else "cpu"
        )
    kind, _, index = wanted.partition(":")
    here = {
        "cpu": 1,
        "cuda": torch.cuda.device_count(),
        "mps": int(torch.backends.mps.is_available()),
    }
    if kind not in here or (index and not index.isdigit()):
        raise ConfigError(f"device={wanted}: expected auto, cpu, cuda, cuda:N or mps.")
    if int(index or 0) >= here[kind]:
        raise ConfigError(
            f"device={wanted}: this machine has {here[kind]} such devices. Say device=auto or device=cpu."
        )
    return wanted


def has_native_bf16(device: str) -> bool:
    """Whether the hardware multiplies bfloat16 itself; elsewhere it is emulated, and slower than float32."""
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_capability(device)[0] >= 8
    if device != "cpu" or not hasattr(torch.cpu, "get_capabilities"):
        return False
    has = torch.cpu.get_capabilities()
    return any(has.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))


class Uploader:
    """Copies batches to a GPU on a stream of their own, from pinned memory, while the GPU computes on the batch before."""

    def __init__(self, device: str) -> None:
        self.device = torch.device(device)
        self.stream = torch.cuda.Stream(self.device)

    def upload(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """The inputs on the device, complete. Runs in the thread that reads ahead. Without room there they stay where they
        are: the forward pass will see, and halve its batch. Those that were decoded there are there."""
        if inputs[0].device.type != "cpu":
            return list(inputs)
        try:
            return self._copy(inputs)
        except torch.OutOfMemoryError:
            return list(inputs)

    def _copy(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        one_shape = len({(one.shape, one.dtype) for one in inputs}) == 1
        pinned = (
            [torch.stack(list(inputs)).pin_memory()]
            if one_shape
            else [one.pin_memory() for one in inputs]
        )
        with torch.cuda.stream(self.stream):
            there = [one.to(self.device, non_blocking=True) for one in pinned]
            self.stream.synchronize()
        for one in there:  # its memory is not for the next copy while the forward pass reads it
            one.record_stream(torch.cuda.default_stream(self.device))
        return list(there[0]) if one_shape else there


def copy_to_cpu(outputs: Outputs) -> Outputs:
    """float32 and integer outputs on the CPU. From a device all values of one name come in one copy: a copy each would
    wait for the device hundreds of times a batch."""
    fetched: list[Output] = [{} for _ in outputs]
    for name in outputs[0] if outputs else ():
        values = [one[name] for one in outputs]
        if values[0].device.type != "cpu":
            values = copy_tensors_together(values)
        for one, value in zip(fetched, values, strict=True):
            one[name] = value.float() if value.is_floating_point() else value
    return fetched


def copy_tensors_together(values: Sequence[Tensor]) -> list[Tensor]:
    """Tensors of one dtype, on the CPU."""
    flat = torch.cat([value.reshape(-1) for value in values]).cpu()
    parts = flat.split([value.numel() for value in values])
    return [part.view(value.shape) for part, value in zip(parts, values, strict=True)]
