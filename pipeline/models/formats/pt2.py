"""The user's own exported program: what torch.export.save wrote."""

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

from pipeline.core.errors import ConfigError
from pipeline.models.programs.adapters import ProgramSignature, Shape, select_logits
from pipeline.models.programs.base import ProgramFile


class Pt2(ProgramFile):
    """A graph of PyTorch's operators with its weights. A detector takes an image or a list of one image."""

    suffixes = (".pt2",)
    danger = (
        "is a torch.export archive: parts of it may be pickles, which torch loads without restriction, so that opening it "
        "can run what its author wrote."
    )

    def read_signature(self) -> ProgramSignature:
        exported = self._exported
        values = {node.name: node.meta.get("val") for node in exported.graph.nodes}
        taken = [
            values[name] for name in exported.graph_signature.user_inputs if isinstance(name, str)
        ]
        if len(taken) != 1 or not isinstance(taken[0], Tensor) or taken[0].dtype != torch.float32:
            takes = ", ".join(str(getattr(one, "dtype", one)) for one in taken) or "nothing"
            raise ConfigError(
                f"{self.file} takes {takes}; expected one input, a tensor of torch.float32."
            )
        names = exported.graph_signature.user_outputs
        given = [values.get(name) if isinstance(name, str) else name for name in names]
        outputs = {str(name): _shape(value) for name, value in zip(names, given, strict=True)}
        main = (
            _shape(select_logits(tree_unflatten(given, exported.call_spec.out_spec)))
            if self.output != "boxes"
            else ()
        )
        return ProgramSignature(
            _shape(taken[0]), outputs, main, _limits(taken[0].shape[0], exported.range_constraints)
        )

    def load_program(self) -> nn.Module:
        return _Graph(self._exported)

    @cached_property
    def _exported(self) -> ExportedProgram:
        names = zipfile.ZipFile(self.file).namelist() if zipfile.is_zipfile(self.file) else []
        if not any("/models/" in name for name in names):
            raise ConfigError(
                f"weights={self.file} is not an archive with an exported program. Expected a file of torch.export.save; "
                "packages compiled by AOTInductor are not run."
            )
        try:
            return torch.export.load(self.file)
        except Exception as error:  # noqa: BLE001 - another torch's archive or a damaged one raises anything
            raise ConfigError(
                f"weights={self.file} cannot be opened by torch {torch.__version__}: {type(error).__name__}: "
                f"{str(error)[:300]}"
            ) from None


class _Graph(nn.Module):
    """Calls an exported program with one tensor, in whatever structure it wants it. The program is kept out of this
    module's children: it refuses eval(), and to() would leave behind what its graph creates on a device by name."""

    def __init__(self, exported: ExportedProgram) -> None:
        super().__init__()
        self.exported = exported
        self._call: tuple[Callable[..., Any]] = (exported.module(),)

    def forward(self, images: Tensor) -> Any:
        args, kwargs = tree_unflatten([images], self.exported.call_spec.in_spec)
        return self._call[0](*args, **kwargs)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "_Graph":
        """What to(device) ends in."""
        self.exported = move_to_device_pass(self.exported, fn(torch.empty(0)).device)
        self._call = (self.exported.module(),)
        return self


def _shape(value: Any) -> Shape:
    """Dynamic sizes become None."""
    return (
        tuple(size if isinstance(size, int) else None for size in value.shape)
        if isinstance(value, Tensor)
        else ()
    )


def _limits(size: Any, ranges: Mapping[Any, Any]) -> tuple[int, int | None]:
    """The least and the most of a size: the same for a fixed one; those it was exported for if dynamic."""
    if isinstance(size, int):
        return size, size
    allowed = ranges.get(size.node.expr)
    if allowed is None:
        return 1, None
    return max(1, int(allowed.lower)), int(allowed.upper) if allowed.upper < sys.maxsize else None
