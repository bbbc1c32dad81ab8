"""Build networks on the meta device."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn


@contextmanager
def use_meta_device() -> Iterator[None]:
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
