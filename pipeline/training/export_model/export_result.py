"""The result of an export as text and as JSON."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from pipeline.config.settings import Settings
from pipeline.core.cpu import count_available_cores
from pipeline.core.text_tables import format_pairs
from pipeline.core.types import ModelSpec
from pipeline.training.export_model.parity import ExportParity, check_raw_difference
from pipeline.training.export_model.shape_probes import ProgramLimits
from pipeline.training.export_model.speed import Speed, format_speeds

_SIZES = {
    True: "any",
    False: "only that of the image it was exported with: on others its results are wrong",
    None: "not known: the eager model finds nothing in these images",
}


@dataclass(frozen=True)
class ExportResult:
    """An exported program and its comparison with the eager model.

    `input_hw` is the size to which a classifier's preprocessing brings all images. `speed` is
    empty if no image can be read.
    """

    settings: Settings
    spec: ModelSpec
    file: Path  # where the program is after the folder is published
    command: str  # the command line that runs the program
    how: str  # the export method
    limits: ProgramLimits
    input_hw: tuple[int, int] | None
    parity: ExportParity
    speed: dict[str, Speed]

    @property
    def faults(self) -> list[str]:
        """The reasons why the program is not equal to the eager model."""
        return self.parity.faults() + (
            [] if self.settings.task == "detect" else check_raw_difference(self.limits.difference)
        )

    def takes(self) -> dict[str, str]:
        batch = "any" if self.limits.any_batch else "1 only"
        size = (
            _SIZES[self.limits.any_size]
            if self.input_hw is None
            else "{} x {}, as its preprocessing makes".format(*self.input_hw)
        )
        return {
            "batch": "1, one image a call" if self.settings.task == "detect" else batch,
            "image size": size,
        }

    def record(self) -> dict[str, Any]:
        return {
            "model": self.settings.model,
            "weights": self.spec.weights,
            "weights_id": self.spec.weights_id,
            "task": self.settings.task,
            "to": self.settings.to,
            "how": self.how,
            **self.takes(),
            "equal": not self.faults,
            "faults": self.faults,
            "raw_difference": self.limits.difference,
            "parity": self.parity.record(),
            "speed": {name: asdict(one) for name, one in self.speed.items()},
            "cores": count_available_cores(),
            "torch": torch.__version__,
            "run": self.command,
        }

    def text(self) -> str:
        detector = self.settings.task == "detect"
        raw = "of the best detections have no like" if detector else "of the largest logit apart"
        inputs = "other inputs" if detector else "noise"
        lines = [
            f"{self.settings.model} ({self.spec.weights}), task={self.settings.task}, "
            f"to={self.settings.to}: {self.how}",
            format_pairs(
                {"program": f"{self.file.stat().st_size / 1e6:.1f} MB: {self.file}", **self.takes()}
            ),
            "",
            f"beside eager fp32 on {self.parity.images} images: {self._verdict()}",
            format_pairs(
                {
                    **self.parity.describe(),
                    "raw": f"{self.limits.difference:.2g} {raw}, on {inputs}",
                }
            ),
            "",
            f"forward passes on {count_available_cores()} cores",
            format_speeds(self.speed) if self.speed else "  not measured: no image can be read",
            "",
            f"files: {self.file.parent}",
            f"run:   {self.command}",
        ]
        return "\n".join(lines)

    def _verdict(self) -> str:
        if self.faults:
            return "NOT equal"
        if self.parity.shows_nothing:
            return (
                "neither finds anything, which shows nothing; say input=FOLDER with images of what "
                "it knows"
            )
        return "equal"
