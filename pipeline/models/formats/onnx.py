"""The user's own ONNX file, run by onnxruntime on the CPU."""

import re
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.core.errors import ConfigError
from pipeline.models.programs.base import ProgramFile
from pipeline.models.programs.signature import ProgramSignature, Shape

# The entry {key: "location", value: NAME} of the file's protobuf, which names another file with
# weights. The length of NAME has one byte, or two from 128 bytes on.
_LOCATION = re.compile(rb"\x0a\x08location\x12([\x01-\x7f]|[\x80-\xff][\x01-\x7f])")


_INPUT_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16}


class Onnx(ProgramFile):
    """Format of an ONNX file: a graph of ONNX's own operators.

    The file is data and runs no code of its author. Custom operators are not loaded. A detector's
    outputs are named boxes, labels and scores, or their types and shapes tell them apart.
    """

    suffixes = (".onnx",)
    danger = None
    cpu_only = True

    def list_files(self) -> list[Path]:
        """Return the file, and the files beside it that hold its weights.

        torch.onnx.export writes such files by default.
        """
        content = self.file.read_bytes()
        names = set()
        for found in _LOCATION.finditer(content):
            length = found[1][0] & 0x7F | (found[1][1] << 7 if len(found[1]) == 2 else 0)
            names.add(content[found.end() : found.end() + length].decode("utf-8", "replace"))
        beside = [self.file.parent / name for name in sorted(names)]
        return [self.file, *(path for path in beside if path.is_file())]

    @classmethod
    def read_metadata(cls, file: Path) -> Mapping[str, Any]:
        """Read the file's `metadata_props`, texts that the exporting program wrote."""
        session = _open_session(file, optimize=False)
        return dict(session.get_modelmeta().custom_metadata_map)

    def read_signature(self) -> ProgramSignature:
        inputs = self._session.get_inputs()
        if len(inputs) != 1 or inputs[0].type not in _INPUT_TYPES:
            given = ", ".join(f"{node.name} {node.type}" for node in inputs) or "nothing"
            raise ConfigError(f"{self.file} takes {given}; expected one input, tensor(float).")

        outputs = {node.name: _parse_shape(node.shape) for node in self._session.get_outputs()}
        shape = _parse_shape(inputs[0].shape)
        batch_size = shape[0] if shape else None
        return ProgramSignature(
            input=shape,
            outputs=outputs,
            main=outputs.get("out", next(iter(outputs.values()), ())),
            batch=(batch_size, batch_size) if batch_size else (1, None),
        )

    def load_program(self) -> nn.Module:
        return _OnnxNetwork(self._session)

    @cached_property
    def _session(self) -> Any:
        return _open_session(self.file)


def _open_session(file: Path, optimize: bool = True) -> Any:
    """Open an ONNX file with onnxruntime on the CPU. `optimize=False` only reads it.

    Raises:
        ConfigError: onnxruntime is not installed, or cannot open the file.
    """
    try:
        import onnxruntime
    except ImportError:
        raise ConfigError(
            "model=onnx needs onnxruntime, which is not installed: "
            "pip install 'visionbatch[onnx]', or in a clone "
            ".venv/bin/pip install -c constraints.txt -e '.[onnx]'"
        ) from None
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only: its warnings are for people who make graphs
    if not optimize:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001 - onnxruntime's errors have no narrower class
        raise ConfigError(
            f"weights={file} cannot be opened by onnxruntime: {str(error)[:300]}"
        ) from None


class _OnnxNetwork(nn.Module):
    """Call an onnxruntime session: float32 tensor -> {name of the output: tensor}."""

    def __init__(self, session: Any) -> None:
        super().__init__()
        self.session, self.input_name = session, session.get_inputs()[0].name
        self.dtype = _INPUT_TYPES[session.get_inputs()[0].type]
        self.output_names = [node.name for node in session.get_outputs()]

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        values = self.session.run(
            self.output_names, {self.input_name: images.numpy().astype(self.dtype)}
        )
        named = zip(self.output_names, values, strict=True)
        return {
            name: torch.from_numpy(value) for name, value in named if isinstance(value, np.ndarray)
        }


def _parse_shape(sizes: Any) -> Shape:
    """Return a shape with None for dynamic sizes, which have names in ONNX."""
    return tuple(size if isinstance(size, int) and size > 0 else None for size in sizes or ())
