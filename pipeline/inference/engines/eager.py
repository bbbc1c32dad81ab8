"""Engine `eager`: runs the network operator by operator, in fp32 by default."""

from pipeline.inference.engine_base import BaseEngine


class Eager(BaseEngine):
    """Runs the network as PyTorch does. `precision` None is fp32."""

    def __init__(self, device: str, precision: str | None) -> None:
        super().__init__(device, precision or "fp32")
