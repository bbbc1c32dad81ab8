"""Choose a device, and copy inputs to it and outputs back."""

from collections.abc import Sequence

import torch
from torch import Tensor

from pipeline.core.errors import ConfigError
from pipeline.core.types import Output, Outputs


def resolve_device(requested: str) -> str:
    """Return the name of an existing device. `auto` selects the best device of this machine.

    Raises:
        ConfigError: This machine has no such device.
    """
    if requested == "auto":
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"

    kind, _, index = requested.partition(":")
    counts = {
        "cpu": 1,
        "cuda": torch.cuda.device_count(),
        "mps": int(torch.backends.mps.is_available()),
    }
    if kind not in counts or (index and not index.isdigit()):
        raise ConfigError(f"device={requested}: expected auto, cpu, cuda, cuda:N or mps.")
    if int(index or 0) >= counts[kind]:
        raise ConfigError(
            f"device={requested}: this machine has {counts[kind]} such devices. "
            "Say device=auto or device=cpu."
        )
    return requested


def has_native_bf16(device: str) -> bool:
    """Return whether the hardware supports bfloat16.

    Other hardware emulates bfloat16, which is slower than float32.
    """
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_capability(device)[0] >= 8
    if device != "cpu" or not hasattr(torch.cpu, "get_capabilities"):
        return False
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))


class Uploader:
    """Copies a batch to a GPU while the GPU computes the previous batch.

    It copies from pinned memory on a separate CUDA stream.
    """

    def __init__(self, device: str) -> None:
        self.device = torch.device(device)
        self.stream = torch.cuda.Stream(self.device)

    def upload(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Copy inputs to the device and wait until the copies are complete.

        Runs in the prefetch thread. Inputs that were decoded on the device are returned unchanged.
        If the device has too little memory, the inputs stay on the CPU. The forward pass then fails
        for the same reason and halves its batch.
        """
        if inputs[0].device.type != "cpu":
            return list(inputs)
        try:
            return self._copy(inputs)
        except torch.OutOfMemoryError:
            return list(inputs)

    def _copy(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        has_one_shape = len({(pixels.shape, pixels.dtype) for pixels in inputs}) == 1
        pinned = (
            [torch.stack(list(inputs)).pin_memory()]
            if has_one_shape
            else [pixels.pin_memory() for pixels in inputs]
        )
        with torch.cuda.stream(self.stream):
            copies = [pixels.to(self.device, non_blocking=True) for pixels in pinned]
            self.stream.synchronize()
        # Without this the next copy could reuse the memory while the forward pass still reads it.
        for copy in copies:
            copy.record_stream(torch.cuda.default_stream(self.device))
        return list(copies[0]) if has_one_shape else copies


def copy_to_cpu(outputs: Outputs) -> Outputs:
    """Copy outputs to the CPU; floating-point values become float32.

    All values with one name are copied together. Separate copies would wait for the device hundreds
    of times per batch.
    """
    copied: list[Output] = [{} for _ in outputs]
    for name in outputs[0] if outputs else ():
        values = [output[name] for output in outputs]
        if values[0].device.type != "cpu":
            values = copy_tensors_together(values)
        for output, value in zip(copied, values, strict=True):
            output[name] = value.float() if value.is_floating_point() else value
    return copied


def copy_tensors_together(values: Sequence[Tensor]) -> list[Tensor]:
    """Copy tensors of one dtype to the CPU in a single transfer."""
    flat = torch.cat([value.reshape(-1) for value in values]).cpu()
    parts = flat.split([value.numel() for value in values])
    return [part.view(value.shape) for part, value in zip(parts, values, strict=True)]
