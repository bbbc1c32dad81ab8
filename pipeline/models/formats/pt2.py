"""The user's own exported program: a file of torch.export.save."""

import sys
import zipfile
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.export.passes import move_to_device_pass
from torch.utils._pytree import tree_unflatten

from pipeline.core.errors import ConfigError, PipelineError
from pipeline.models.programs.base import ProgramFile
from pipeline.models.programs.logits import select_logits
from pipeline.models.programs.signature import ProgramSignature, Shape


class Pt2(ProgramFile):
    """Format of a torch.export archive: a graph of PyTorch's operators with its weights.

    A detector takes an image, or a list of one image.
    """

    suffixes = (".pt2",)
    danger = (
        "is a torch.export archive: parts of it may be pickles, which torch loads without "
        "restriction, so that opening it can run what its author wrote."
    )

    def read_signature(self) -> ProgramSignature:
        exported = self._exported
        values = {node.name: node.meta.get("val") for node in exported.graph.nodes}
        inputs = [
            values[name] for name in exported.graph_signature.user_inputs if isinstance(name, str)
        ]
        is_one_tensor = len(inputs) == 1 and isinstance(inputs[0], Tensor)
        if not is_one_tensor or inputs[0].dtype != torch.float32:
            given = ", ".join(str(getattr(value, "dtype", value)) for value in inputs) or "nothing"
            raise ConfigError(
                f"{self.file} takes {given}; expected one input, a tensor of torch.float32."
            )

        names = exported.graph_signature.user_outputs
        outputs = [values.get(name) if isinstance(name, str) else name for name in names]
        returned = tree_unflatten(outputs, exported.call_spec.out_spec)
        try:
            main = _get_shape(select_logits(returned))
        except PipelineError:  # a detector's outputs are no tensor of logits
            main = ()
        return ProgramSignature(
            input=_get_shape(inputs[0]),
            outputs={
                str(name): _get_shape(value) for name, value in zip(names, outputs, strict=True)
            },
            main=main,
            batch=_get_limits(inputs[0].shape[0], exported.range_constraints),
        )

    def load_program(self) -> nn.Module:
        return _ExportedNetwork(self._exported)

    @cached_property
    def _exported(self) -> ExportedProgram:
        names = zipfile.ZipFile(self.file).namelist() if zipfile.is_zipfile(self.file) else []
        if not any("/models/" in name for name in names):
            raise ConfigError(
                f"weights={self.file} is not an archive with an exported program. Expected a file "
                "of torch.export.save; packages compiled by AOTInductor are not run."
            )
        try:
            return torch.export.load(self.file)
        except Exception as error:  # noqa: BLE001 - damaged or foreign archives raise any error
            raise ConfigError(
                f"weights={self.file} cannot be opened by torch {torch.__version__}: "
                f"{type(error).__name__}: {str(error)[:300]}"
            ) from None


class _ExportedNetwork(nn.Module):
    """Call an exported program with one tensor, in the structure that it expects.

    The program is not a child of this module: it refuses eval(), and to() would not move tensors
    that its graph creates on a fixed device.
    """

    def __init__(self, exported: ExportedProgram) -> None:
        super().__init__()
        self.exported = exported
        self._program: tuple[Callable[..., Any]] = (exported.module(),)

    def forward(self, images: Tensor) -> Any:
        args, kwargs = tree_unflatten([images], self.exported.call_spec.in_spec)
        return self._program[0](*args, **kwargs)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "_ExportedNetwork":
        """Move the program where `fn` moves tensors; `to(device)` calls this."""
        self.exported = move_to_device_pass(self.exported, fn(torch.empty(0)).device)
        self._program = (self.exported.module(),)
        return self


def _get_shape(value: Any) -> Shape:
    """Return a tensor's shape with None for dynamic sizes; empty for anything else."""
    if not isinstance(value, Tensor):
        return ()
    return tuple(size if isinstance(size, int) else None for size in value.shape)


def _get_limits(size: Any, ranges: Mapping[Any, Any]) -> tuple[int, int | None]:
    """Return the smallest and the largest value of a size; None: no limit.

    Args:
        size: A fixed size, or a symbol for a dynamic one.
        ranges: The ranges of symbols that the program was exported for.
    """
    if isinstance(size, int):
        return size, size
    allowed = ranges.get(size.node.expr)
    if allowed is None:
        return 1, None
    return max(1, int(allowed.lower)), int(allowed.upper) if allowed.upper < sys.maxsize else None
