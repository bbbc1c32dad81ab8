"""Build networks that have shapes but no data."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn


@contextmanager
def use_meta_device() -> Iterator[None]:
    """Put the tensors of networks that are built inside the block on the meta device.

    Each parameter and buffer is moved when its module registers it. Building the network under
    `torch.device("meta")` instead would fail for RegNet, which computes with tensors while it is
    built.
    """
    register_parameter, register_buffer = nn.Module.register_parameter, nn.Module.register_buffer

    def register_meta_parameter(module: nn.Module, name: str, value: nn.Parameter | None) -> None:
        if value is not None:
            value = nn.Parameter(value.to("meta"), requires_grad=False)
        register_parameter(module, name, value)

    def register_meta_buffer(
        module: nn.Module, name: str, value: Tensor | None, persistent: bool = True
    ) -> None:
        register_buffer(module, name, None if value is None else value.to("meta"), persistent)

    module_class: Any = nn.Module
    module_class.register_parameter = register_meta_parameter
    module_class.register_buffer = register_meta_buffer
    try:
        yield
    finally:
        module_class.register_parameter = register_parameter
        module_class.register_buffer = register_buffer
