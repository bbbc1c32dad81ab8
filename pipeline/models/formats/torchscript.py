"""The user's own TorchScript program: a file of torch.jit.save."""

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.config.settings import Settings
from pipeline.core.errors import ConfigError
from pipeline.models.programs.base import ProgramFile


class TorchScript(ProgramFile):
    """Format of a TorchScript file. The file is a program: using it runs what its author wrote.

    A detector has the interface of a scripted torchvision detector: `program([image])` returns
    `(losses, [{boxes, labels, scores}])`, or only the list.

    Args:
        settings: The run's settings.
        quantized_engine: The int8 engine that the program was made for.

    Raises:
        ConfigError: The settings do not fit, or torch does not have the engine.
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
        """Return None, because a TorchScript file does not hold shapes."""

    def load_program(self) -> nn.Module:
        # Before loading, because int8 weights are packed for one engine.
        torch.backends.quantized.engine = self.quantized_engine
        try:
            with warnings.catch_warnings():
                # The user chose this format; the warning advises to choose another.
                warnings.filterwarnings("ignore", message=".*torch.jit.load.* is deprecated")
                program = torch.jit.load(self.file, map_location="cpu").eval()
        except RuntimeError as error:
            raise ConfigError(
                f"weights={self.file} is not a TorchScript program ({str(error)[:120]!r})"
            ) from None
        return _ListOfOneImage(program) if self.output == "boxes" else program


class _ListOfOneImage(nn.Module):
    """Call a program with a list that holds the image."""

    def __init__(self, program: nn.Module) -> None:
        super().__init__()
        self.program = program

    def forward(self, image: Tensor) -> Any:
        return self.program([image])
