"""The network as PyTorch runs it, operator by operator."""

from pipeline.inference.engine_base import BaseEngine


class Eager(BaseEngine):
    """`precision`: fp32 unless bf16 or fp16 is asked for."""

    def __init__(self, device: str, precision: str | None) -> None:
        super().__init__(device, precision or "fp32")
