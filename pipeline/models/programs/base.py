"""The part that all formats of programs share: ONNX, TorchScript and torch.export."""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor, nn

from pipeline.config.settings import Settings
from pipeline.config.task_classes import find_task, list_served_tasks
from pipeline.core.errors import ConfigError
from pipeline.core.hashing import hash_file
from pipeline.core.types import Model, ModelSpec
from pipeline.models.networks.segmenter import SegmenterNetwork
from pipeline.models.programs.detections import OneImageDetector
from pipeline.models.programs.logits import ChunkedLogits, LogitsPerImage
from pipeline.models.programs.signature import ProgramSignature, format_shape
from pipeline.models.programs.signature_checks import (
    LOGITS_DIMS,
    check_batch_input,
    check_detector_input,
    check_outputs,
)
from pipeline.models.programs.user_settings import find_transform, load_program_categories
from pipeline.models.weights import resolve_file


class ProgramFile(ABC):
    """Base class of the formats whose files are programs.

    A subclass opens a file (`load_program`) and reads its signature (`read_signature`). The
    program's input and outputs depend on what the task needs (`output`):

    - `logits`: float (B, 3, h, w) -> logits (B, C)
    - `probabilities`: float (B, 3, h, w) -> logits (B, C, h, w), or a mapping with these as `out`
    - `boxes`: one image (3, H, W), float in 0..1, at its own size -> boxes xyxy in pixels of this
      image, labels, scores

    Raises:
        ConfigError: The settings do not fit a program, or do not allow to run it.
    """

    suffixes: ClassVar[tuple[str, ...]]  # endings of the format's files
    outputs: ClassVar[tuple[str, ...]] = ("logits", "boxes", "probabilities")  # a program has one
    # What opening a file may do, for which trust_code=true is required. None: a file is only data.
    danger: ClassVar[str | None]
    cpu_only: ClassVar[bool] = False

    def __init__(self, settings: Settings) -> None:
        self.settings, self.task = settings, settings.task
        if settings.weights in ("DEFAULT", "random"):
            raise ConfigError(
                f"model={settings.model} needs its file: weights=FILE{self.suffixes[0]}"
            )
        self.file = resolve_file(settings.weights, self.suffixes)
        self.tasks = self._list_tasks()
        if self.task not in self.tasks:
            known = f"{', '.join(self.tasks[:-1])} or {self.tasks[-1]}"
            raise ConfigError(f"model={settings.model} can do {known}, not task={self.task}.")
        (self.output,) = find_task(self.task).needs
        if self.danger and not settings.trust_code:
            raise ConfigError(
                f"weights={self.file} {self.danger} "
                "If you trust where it came from, say trust_code=true."
            )
        self.transform = find_transform(settings, self.output, self.file)

    def _list_tasks(self) -> list[str]:
        """Return the names of the tasks that need one of the possible outputs, and no other."""
        return sorted({name for output in self.outputs for name in list_served_tasks({output})})

    # --- what a format adds

    @abstractmethod
    def load_program(self) -> nn.Module:
        """Open the file. The module is called with (B, 3, h, w), or with one image for boxes."""

    @abstractmethod
    def read_signature(self) -> ProgramSignature | None:
        """Read the shapes of input and outputs; None where files of the format do not tell.

        Raises:
            ConfigError: The file is not one of this format.
        """

    def result_settings(self) -> dict[str, Any]:
        """Return the format's own settings that change results, for the fingerprint."""
        return {}

    def list_files(self) -> list[Path]:
        """Return the file, and the files that it refers to."""
        return [self.file]

    # --- the interface of a format

    def describe(self) -> ModelSpec:
        """Describe the model; the file is opened to read its signature, not run."""
        is_detector = self.output == "boxes"
        how = {"range": "0..1"} if is_detector else {"transform": repr(self.transform)}
        preprocessing = how | {"channels": self.settings.channels} | self.result_settings()
        return ModelSpec(
            name=self.settings.model,
            outputs=frozenset({self.output}),
            categories=self._categories,
            weights=str(self.file),
            weights_id=f"sha256:{self._sha256}",
            preprocessing=json.dumps(preprocessing),
        )

    def details(self) -> dict[str, str]:
        """Return further facts for a user who chooses a model: heading -> text."""
        n_bytes = sum(path.stat().st_size for path in self.list_files())
        rows = {"file": f"{n_bytes / 1e6:.1f} MB: {self.file}"}
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
        """Open the program and assemble the model."""
        network, compute_bucket = self._build_network(self._signature, self.load_program())
        return Model(
            network=network,
            preprocess=self._preprocess,
            bucket=compute_bucket,
            weights_sha256=self._sha256,
            full_precision_only=True,
            cpu_only=self.cpu_only,
            max_batch=1 if self.output == "boxes" else None,
        )

    def _build_network(
        self, signature: ProgramSignature | None, program: nn.Module
    ) -> tuple[nn.Module, Callable[[tuple[int, int]], Hashable]]:
        """Return the network around the program, and the shape bucket of an image's size."""
        if self.output == "boxes":
            batched = signature is not None and len(signature.input) == 4
            return OneImageDetector(program, batched), _use_one_bucket

        batch = signature.batch if signature else (1, None)
        logits = ChunkedLogits(program, len(self._categories), LOGITS_DIMS[self.output], batch)
        if self.output == "probabilities":
            segmenter = SegmenterNetwork(logits, self.transform)
            return segmenter, segmenter.compute_bucket
        return LogitsPerImage(logits), _use_one_bucket

    # --- preprocessing

    def _preprocess(self, image: Tensor) -> Tensor:
        """Prepare an image: (3, H, W) uint8 RGB -> float32 in the program's channel order."""
        if self.settings.channels == "bgr":
            image = image.flip(0)
        return self.transform(image)

    # --- what the file says

    @cached_property
    def _sha256(self) -> str:
        return hash_file(*self.list_files())

    @cached_property
    def _signature(self) -> ProgramSignature | None:
        """The signature, checked against the task and the preprocessing."""
        signature = self.read_signature()
        if signature is None:
            return None
        check_outputs(self.file, signature, self.task, self.output, self.tasks)
        if self.output == "boxes":
            check_detector_input(self.file, signature, self.task)
        else:
            preset = self.settings.preprocess
            check_batch_input(self.file, signature.input, self.task, self.transform, preset)
        return signature

    @cached_property
    def _categories(self) -> tuple[str, ...]:
        return load_program_categories(self.settings, self.output, self.file, self._count_outputs())

    def _count_outputs(self) -> int | None:
        """Return the number of classes that the logits have; None where the file does not tell."""
        logits_shape = self._signature.main if self._signature and self.output != "boxes" else ()
        return logits_shape[1] if logits_shape else None


def _use_one_bucket(size_hw: tuple[int, int]) -> Hashable:
    """Return the shape bucket that all images share."""
    return None
