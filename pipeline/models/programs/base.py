"""The user's own model as a program in a file: what TorchScript, torch.export and ONNX have in common."""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torchvision.transforms.functional import convert_image_dtype

from pipeline.config.settings import Settings
from pipeline.config.task_classes import find_task, list_served_tasks
from pipeline.core.errors import ConfigError
from pipeline.core.hashing import hash_file
from pipeline.core.types import Model, ModelSpec
from pipeline.models.class_names import add_background, load_categories
from pipeline.models.networks.segmenter import SegmenterNetwork
from pipeline.models.programs.adapters import (
    DETECTION_OUTPUTS,
    ChunkedLogits,
    LogitsPerImage,
    OneImageDetector,
    ProgramSignature,
    Shape,
    format_shape,
)
from pipeline.models.registry import find_published_transform
from pipeline.models.weights import resolve_file

_DIMS = {"logits": 2, "probabilities": 4}  # of what such a program returns
_EXAMPLES = {
    "logits": "MobileNet_V2_Weights.IMAGENET1K_V1",
    "probabilities": "DeepLabV3_ResNet50_Weights.COCO_WITH_VOC_LABELS_V1",
}
_PROBES_HW = ((480, 640), (640, 480))  # photographs, to see what the preprocessing makes of them


class ProgramFile(ABC):
    """A program that takes images and gives logits or detections. A format says how to open one (`program`), and what it
    tells of itself (`signature`); everything else is here.

    `classify`: float (B, 3, h, w) -> logits (B, C). `segment`: -> logits (B, C, h, w), or a mapping with these as `out`.
    `detect`: one image (3, H, W), float in 0..1, at its own size -> boxes xyxy in its pixels, labels, scores.
    """

    suffixes: ClassVar[tuple[str, ...]]
    outputs: ClassVar[tuple[str, ...]] = ("logits", "boxes", "probabilities")  # a program has one
    danger: ClassVar[
        str | None
    ]  # what opening a file may do, for which trust_code=true is asked; None: it is data
    cpu_only: ClassVar[bool] = False

    def __init__(self, settings: Settings) -> None:
        self.settings, self.task = settings, settings.task
        if settings.weights in ("DEFAULT", "random"):
            raise ConfigError(
                f"model={settings.model} needs its file: weights=FILE{self.suffixes[0]}"
            )
        self.file = resolve_file(settings.weights, self.suffixes)
        tasks = self._list_tasks()
        if self.task not in tasks:
            can = f"{', '.join(tasks[:-1])} or {tasks[-1]}"
            raise ConfigError(f"model={settings.model} can do {can}, not task={self.task}.")
        (self.output,) = find_task(self.task).needs
        if self.danger and not settings.trust_code:
            raise ConfigError(
                f"weights={self.file} {self.danger} If you trust where it came from, say trust_code=true."
            )
        self.transform = self._transform()

    def _list_tasks(self) -> list[str]:
        """Return the names of the tasks for which one of the possible outputs is enough."""
        return sorted({name for output in self.outputs for name in list_served_tasks({output})})

    @abstractmethod
    def load_program(self) -> nn.Module:
        """Called with (B, 3, h, w), or for `detect` with one image as the signature says."""

    @abstractmethod
    def read_signature(self) -> ProgramSignature | None:
        """None where files of this format do not tell. Raises ConfigError for a file that is not one."""

    def result_settings(self) -> dict[str, Any]:
        """What else of the format's settings changes results."""
        return {}

    def list_files(self) -> list[Path]:
        """The file, and those it refers to."""
        return [self.file]

    def describe(self) -> ModelSpec:
        how = {"range": "0..1"} if self.output == "boxes" else {"transform": repr(self.transform)}
        return ModelSpec(
            name=self.settings.model,
            outputs=frozenset({self.output}),
            categories=self._names,
            weights=str(self.file),
            weights_id=f"sha256:{self._sha256}",
            preprocessing=json.dumps(
                how | {"channels": self.settings.channels} | self.result_settings()
            ),
        )

    def details(self) -> dict[str, str]:
        rows = {
            "file": f"{sum(path.stat().st_size for path in self.list_files()) / 1e6:.1f} MB: {self.file}"
        }
        signature = self._signature
        if signature is None:
            return rows | {"input, outputs": "files of this format do not tell"}
        outputs = "; ".join(
            f"{name}: {format_shape(shape)}" for name, shape in signature.outputs.items()
        )
        return rows | {
            "input": format_shape(signature.input),
            "outputs": f"{len(signature.outputs)} ({outputs})",
        }

    def load(self) -> Model:
        signature, program = self._signature, self.load_program()
        network: nn.Module
        bucket: Callable[[tuple[int, int]], Any] = lambda size_hw: None  # noqa: E731 - one for all
        if self.output == "boxes":
            network = OneImageDetector(
                program, batched=signature is not None and len(signature.input) == 4
            )
        else:
            logits = ChunkedLogits(
                program,
                len(self._names),
                _DIMS[self.output],
                signature.batch if signature else (1, None),
            )
            network = LogitsPerImage(logits)
            if self.output == "probabilities":
                network = SegmenterNetwork(logits, self.transform)
                bucket = network.bucket
        return Model(
            network=network,
            preprocess=self._preprocess,
            bucket=bucket,
            weights_sha256=self._sha256,
            full_precision_only=True,
            cpu_only=self.cpu_only,
            max_batch=1 if self.output == "boxes" else None,
        )

    def _preprocess(self, image: Tensor) -> Tensor:
        """(3, H, W) uint8 RGB -> float32 as the program takes it, in its channel order."""
        prepared: Tensor = self.transform(
            image.flip(0) if self.settings.channels == "bgr" else image
        )
        return prepared

    def _transform(self) -> Callable[[Tensor], Tensor]:
        """That of the torchvision weights that `preprocess=` names; for detectors only uint8 -> 0..1."""
        given = self.settings.preprocess
        if self.output == "boxes":
            if given != "DEFAULT":
                raise ConfigError(
                    f"preprocess={given}: a detector gets float 0..1 at the image's own size; leave it out."
                )
            return lambda image: convert_image_dtype(image, torch.float32)
        if given == "DEFAULT":
            raise ConfigError(
                f"{self.file} does not say how its images are to be prepared, and a wrong way gives wrong results without "
                f"an error. Name the torchvision weights whose preprocessing it expects: preprocess={_EXAMPLES[self.output]}"
            )
        return find_published_transform(given, self.task)

    @cached_property
    def _sha256(self) -> str:
        return hash_file(*self.list_files())

    @cached_property
    def _signature(self) -> ProgramSignature | None:
        """Checked against the task and the preprocessing."""
        signature = self.read_signature()
        if signature:
            self._check_outputs(signature)
            self._check_input(signature.input, signature.batch)
        return signature

    @cached_property
    def _names(self) -> tuple[str, ...]:
        """Checked against the number of outputs, where the file tells it."""
        n_outputs = self._n_outputs()
        if not self.settings.categories:
            builtin = "coco" if self.output == "boxes" else "imagenet"
            has = (
                "carries no class names"
                if n_outputs is None
                else f"has {n_outputs} outputs and no class names"
            )
            raise ConfigError(
                f"{self.file} {has}: say categories={builtin}, or categories=FILE with one name a line."
            )
        names = load_categories(self.settings.categories)
        if self.output == "boxes":
            return add_background(names)
        if n_outputs is not None and n_outputs != len(names):
            raise ConfigError(
                f"{self.file} has {n_outputs} outputs, but categories={self.settings.categories} has {len(names)} names. "
                "Expected one name for each output, in their order."
            )
        return names

    def _n_outputs(self) -> int | None:
        main = self._signature.main if self._signature and self.output != "boxes" else ()
        return main[1] if main else None

    def _check_input(self, shape: Shape, batch: tuple[int, int | None]) -> None:
        ranks = (3, 4) if self.output == "boxes" else (4,)
        if len(shape) not in ranks or shape[-3] not in (3, None):
            expected = (
                "3 x height x width, one image"
                if self.output == "boxes"
                else "batch x 3 x height x width"
            )
            raise ConfigError(
                f"{self.file} takes {format_shape(shape)}; task={self.task} gives {expected}."
            )
        if self.output == "boxes":
            if shape[-2:] != (None, None) or (len(shape) == 4 and batch[0] > 1):
                raise ConfigError(
                    f"{self.file} takes {format_shape(shape)} only; task=detect gives it one image at a time, at its own "
                    "size. Export it with dynamic height and width, and a batch of one or of any size."
                )
            return
        for height, width in _PROBES_HW:
            made = self.transform(torch.zeros(3, height, width, dtype=torch.uint8)).shape[-2:]
            if any(fixed not in (size, None) for fixed, size in zip(shape[-2:], made, strict=True)):
                raise ConfigError(
                    f"{self.file} takes {format_shape(shape[-2:])} pixels (height x width) only; "
                    f"preprocess={self.settings.preprocess} makes {format_shape(tuple(made))} of a photograph of "
                    f"{height} x {width}. Choose another preprocess=, or export the model with dynamic height and width."
                )

    def _check_outputs(self, signature: ProgramSignature) -> None:
        gives = "; ".join(
            f"{name} {format_shape(shape)}" for name, shape in signature.outputs.items()
        )
        expected = "batch x classes" + " x height x width" * (self.output == "probabilities")
        wrong = bool(signature.main) and len(signature.main) != _DIMS.get(self.output)
        if self.output == "boxes":
            expected, wrong = (
                ", ".join(DETECTION_OUTPUTS),
                len(signature.outputs) < len(DETECTION_OUTPUTS),
            )
        if wrong:
            raise ConfigError(
                f"{self.file} gives {gives}; task={self.task} expects {expected}. "
                f"If it is made for another task, say task={' or '.join(name for name in self._list_tasks() if name != self.task)}."
            )
