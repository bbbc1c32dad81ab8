"""The user's own TorchScript program: a file of torch.jit.save."""

import json
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.config.settings import Settings
from pipeline.core.errors import ConfigError
from pipeline.models.pickle_origin import is_program_archive, refuse_pickled_code
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

    @classmethod
    def recognises(cls, model: str) -> bool:
        """Return whether `model` names a TorchScript file.

        `.pt` and `.pth` are also the endings of checkpoints, so the file's content decides.
        """
        path = Path(model).expanduser()
        if path.suffix.casefold() in (".pt", ".pth"):
            return is_program_archive(path)
        return super().recognises(model)

    def result_settings(self) -> dict[str, Any]:
        return {"quantized_engine": self.quantized_engine}

    @classmethod
    def read_metadata(cls, file: Path) -> Mapping[str, Any]:
        """Read `extra/config.txt`, JSON that Ultralytics and YOLOv5 put into the archive."""
        if not zipfile.is_zipfile(file):
            return {}
        with zipfile.ZipFile(file) as archive:
            names = [name for name in archive.namelist() if name.endswith("/extra/config.txt")]
            try:
                metadata = json.loads(archive.read(names[0])) if names else {}
            except (ValueError, zipfile.BadZipFile):
                return {}
        return metadata if isinstance(metadata, dict) else {}

    def read_signature(self) -> None:
        """Return None, because a TorchScript file does not hold shapes."""

    def load_program(self) -> nn.Module:
        refuse_pickled_code(self.file)
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
        return _ListOfOneImage(program) if self.takes_one_image else program


class _ListOfOneImage(nn.Module):
    """Call a program with a list that holds the image."""

    def __init__(self, program: nn.Module) -> None:
        super().__init__()
        self.program = program

    def forward(self, image: Tensor) -> Any:
        return self.program([image])
