"""The user's own ONNX file, run by onnxruntime on the CPU."""

import re
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.core.errors import ConfigError
from pipeline.models.programs.adapters import ProgramSignature, Shape
from pipeline.models.programs.base import ProgramFile

# An entry {key: "location", value: NAME} in the file's protobuf, wherever it stands: weights kept in another file. Names
# of 128 bytes and more have a length of two bytes.
_LOCATION = re.compile(rb"\x0a\x08location\x12([\x01-\x7f]|[\x80-\xff][\x01-\x7f])")


class Onnx(ProgramFile):
    """A graph of ONNX's own operators and numbers: data, which runs no code of its author. Custom operators are not loaded.

    A detector's outputs are named boxes, labels and scores, or are known by their types and shapes.
    """

    suffixes = (".onnx",)
    danger = None
    cpu_only = True

    def list_files(self) -> list[Path]:
        """With the files beside it that hold its weights, which torch.onnx.export writes by default."""
        content = self.file.read_bytes()
        names = set()
        for found in _LOCATION.finditer(content):
            length = found[1][0] & 0x7F | (found[1][1] << 7 if len(found[1]) == 2 else 0)
            names.add(content[found.end() : found.end() + length].decode("utf-8", "replace"))
        beside = [self.file.parent / name for name in sorted(names)]
        return [self.file, *(path for path in beside if path.is_file())]

    def read_signature(self) -> ProgramSignature:
        taken = self._session.get_inputs()
        if len(taken) != 1 or taken[0].type != "tensor(float)":
            takes = ", ".join(f"{one.name} {one.type}" for one in taken) or "nothing"
            raise ConfigError(f"{self.file} takes {takes}; expected one input, tensor(float).")
        outputs = {one.name: _shape(one.shape) for one in self._session.get_outputs()}
        shape = _shape(taken[0].shape)
        fixed = shape[0] if shape else None
        main = outputs.get("out", next(iter(outputs.values()), ()))
        return ProgramSignature(shape, outputs, main, (fixed, fixed) if fixed else (1, None))

    def load_program(self) -> nn.Module:
        return _Session(self._session)

    @cached_property
    def _session(self) -> Any:
        try:
            import onnxruntime
        except ImportError:
            raise ConfigError(
                "model=onnx needs onnxruntime, which is not installed: pip install 'visionbatch[onnx]', or in a clone "
                ".venv/bin/pip install -c constraints.txt -e '.[onnx]'"
            ) from None
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors; its warnings are for the makers of graphs
        try:
            return onnxruntime.InferenceSession(
                self.file, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # noqa: BLE001 - its exceptions have no common class but this
            raise ConfigError(
                f"weights={self.file} cannot be opened by onnxruntime: {str(error)[:300]}"
            ) from None


class _Session(nn.Module):
    """float32 tensor -> {output's name: tensor}."""

    def __init__(self, session: Any) -> None:
        super().__init__()
        self.session, self.input_name = session, session.get_inputs()[0].name
        self.output_names = [one.name for one in session.get_outputs()]

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        values = self.session.run(self.output_names, {self.input_name: images.numpy()})
        named = zip(self.output_names, values, strict=True)
        return {
            name: torch.from_numpy(value) for name, value in named if isinstance(value, np.ndarray)
        }


def _shape(sizes: Any) -> Shape:
    """Names of dynamic sizes become None."""
    return tuple(size if isinstance(size, int) and size > 0 else None for size in sizes or ())
