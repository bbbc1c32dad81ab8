"""The user's own TorchScript program."""

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.config.settings import Settings
from pipeline.core.errors import ConfigError
from pipeline.models.programs.base import ProgramFile


class TorchScript(ProgramFile):
    """What torch.jit.save wrote. A detector has the interface of a scripted torchvision one: `program([chw])` gives
    `(losses, [{boxes, labels, scores}])` or the list alone.

    Such a file is a program: using it runs what its author wrote.
    """

    suffixes = (".pt", ".pth", ".ts", ".torchscript", ".jit")
    danger = "is TorchScript: a program, which can read and write your files when it runs."

    def __init__(self, settings: Settings, quantized_engine: str) -> None:
        super().__init__(settings)
        engines = torch.backends.quantized.supported_engines
        if quantized_engine not in engines:
            raise ConfigError(
                f"quantized_engine={quantized_engine}: this torch has {', '.join(engines)}."
            )
        self.quantized_engine = quantized_engine

    def result_settings(self) -> dict[str, Any]:
        return {"quantized_engine": self.quantized_engine}

    def read_signature(self) -> None:
        """A TorchScript file does not keep the shapes it was made with."""

    def load_program(self) -> nn.Module:
        torch.backends.quantized.engine = (
            self.quantized_engine
        )  # before loading: int8 weights are packed for one engine
        try:
            with warnings.catch_warnings():
                # the user's file is what it is
                warnings.filterwarnings("ignore", message=".*torch.jit.load.* is deprecated")
                program = torch.jit.load(self.file, map_location="cpu").eval()
        except RuntimeError as error:
            raise ConfigError(
                f"weights={self.file} is not a TorchScript program ({str(error)[:120]!r})"
            ) from None
        return _TakesAList(program) if self.output == "boxes" else program


class _TakesAList(nn.Module):
    def __init__(self, program: nn.Module) -> None:
        super().__init__()
        self.program = program

    def forward(self, image: Tensor) -> Any:
        return self.program([image])
