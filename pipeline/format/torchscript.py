"""The user's own TorchScript detector."""

import json
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.transforms.functional import convert_image_dtype

from pipeline.categories import load_categories, with_background
from pipeline.errors import ConfigError, PipelineError
from pipeline.hashing import sha256_of
from pipeline.settings import Settings
from pipeline.types import Model, ModelSpec, Outputs
from pipeline.weights import existing


class TorchScript:
    """Expects the interface of a scripted torchvision detector: `program([chw])`, float in 0..1, gives `(losses, [{boxes,
    labels, scores}])` or the list alone; boxes xyxy in pixels of the image it was given.

    Such a file is a program: loading it runs what its author wrote.
    """

    def __init__(self, settings: Settings, quantized_engine: str) -> None:
        self.settings = settings
        if settings.weights in ("DEFAULT", "random"):
            raise ConfigError("model=torchscript needs its file: weights=FILE.pt")
        self.file = existing(settings.weights, (".pt", ".pth", ".ts", ".torchscript", ".jit"))
        if settings.task != "detect":
            raise ConfigError(f"model=torchscript can do task=detect, not task={settings.task}.")
        if not settings.trust_code:
            raise ConfigError(
                f"weights={self.file} is TorchScript: a program, which can read and write your files when it runs. "
                "If you trust where it came from, say trust_code=true."
            )
        if not settings.categories:
            raise ConfigError("A TorchScript file carries no class names. Add categories=coco or categories=FILE.")
        engines = torch.backends.quantized.supported_engines
        if quantized_engine not in engines:
            raise ConfigError(f"quantized_engine={quantized_engine}: this torch has {', '.join(engines)}.")
        self.quantized_engine = quantized_engine

    def describe(self) -> ModelSpec:
        return ModelSpec(
            name=self.settings.model,
            tasks=frozenset({"detect"}),
            categories=with_background(load_categories(str(self.settings.categories))),
            weights=str(self.file),
            weights_id=f"sha256:{sha256_of(self.file)}",
            preprocessing=json.dumps(
                {"range": "0..1", "channels": self.settings.channels, "quantized_engine": self.quantized_engine}
            ),
        )

    def details(self) -> dict[str, str]:
        return {"file": f"{self.file.stat().st_size / 1e6:.0f} MB: {self.file}"}

    def load(self) -> Model:
        torch.backends.quantized.engine = self.quantized_engine  # before loading: int8 weights are packed for one engine
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings(
                    "ignore", message=".*torch.jit.load.* is deprecated"
                )  # the user's file is what it is
                program = torch.jit.load(self.file, map_location="cpu").eval()
        except RuntimeError as error:
            raise ConfigError(f"weights={self.file} is not a TorchScript program ({str(error)[:120]!r})") from None
        return Model(
            network=_OneByOne(program),
            preprocess=self._preprocess,
            bucket=lambda size_hw: None,
            weights_sha256=sha256_of(self.file),
            full_precision_only=True,
            max_batch=1,
        )

    def _preprocess(self, image: Tensor) -> Tensor:
        """(3, H, W) uint8 RGB -> float32 in 0..1, in the program's channel order."""
        image = image.flip(0) if self.settings.channels == "bgr" else image
        return convert_image_dtype(image, torch.float32)


class _OneByOne(nn.Module):
    """One image a call: a program may ignore all but the first (mobile ones do), or pad and change results."""

    def __init__(self, program: Any) -> None:
        super().__init__()
        self.program = program

    def forward(self, inputs: Sequence[Tensor], sizes_hw: Sequence[tuple[int, int]]) -> Outputs:
        return [self._detect(image) for image in inputs]

    def _detect(self, image: Tensor) -> dict[str, Tensor]:
        returned = self.program([image])
        detections = returned[1] if isinstance(returned, tuple) else returned
        if not (
            isinstance(detections, list) and len(detections) == 1 and {"boxes", "labels", "scores"} <= set(detections[0])
        ):
            raise PipelineError(
                "The TorchScript program returned something else than one {boxes, labels, scores} for one image: "
                f"{type(returned).__name__}. Expected the interface of a scripted torchvision detector."
            )
        return dict(detections[0])
