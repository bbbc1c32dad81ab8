"""Programs with the inputs and outputs of torchvision's models."""

import math
from collections.abc import Hashable
from typing import Any

from torch import nn

from pipeline.config.settings import Settings
from pipeline.config.task_classes import find_task, list_served_tasks
from pipeline.models.networks.segmenter import SegmenterNetwork
from pipeline.models.programs.detections import OneImageDetector
from pipeline.models.programs.head import Head, ProgramFacts, ProgramModel
from pipeline.models.programs.logits import ChunkedLogits, LogitsPerImage
from pipeline.models.programs.signature import ProgramSignature
from pipeline.models.programs.signature_checks import (
    LOGITS_DIMS,
    check_batch_input,
    check_detector_input,
    check_outputs,
)
from pipeline.models.programs.user_settings import find_transform, load_program_categories

# A detector resizes the image by itself, which its file does not tell. Mobile ones enlarge the
# shorter side to 320 pixels, and do not limit the longer one. Measured on an int8 one: twice the
# resized image in float32. The factor leaves room for others.
_DETECTOR_SIDE, _DETECTOR_FACTOR = 320, 16.0
_OUTPUTS = ("logits", "boxes", "probabilities")  # a program has one of them


class TorchvisionHead(Head):
    """Head of a program that takes and returns what a torchvision model does.

    The settings say what the file does not: preprocessing and class names. The program's input and
    output depend on what the task needs:

    - `logits`: float (B, 3, h, w) -> logits (B, C)
    - `probabilities`: float (B, 3, h, w) -> logits (B, C, h, w), or a mapping with these as `out`
    - `boxes`: one image (3, H, W), float in 0..1, at its own size -> boxes xyxy in pixels of this
      image, labels, scores

    Raises:
        ConfigError: The settings do not fit the program.
    """

    def __init__(self, facts: ProgramFacts, settings: Settings) -> None:
        self.facts, self.settings, self.task = facts, settings, settings.task
        (self.output,) = find_task(self.task).needs
        self.outputs = frozenset({self.output})
        self.transform = find_transform(settings, self.output, facts.file)
        if facts.signature:
            self._check_signature(facts.signature)
        n_outputs = self._count_logits()
        self.categories = load_program_categories(settings, self.output, facts.file, n_outputs)

    @classmethod
    def explain_match(cls, facts: ProgramFacts) -> str | None:
        """Return None: this is the head of a program that no other head recognises."""
        return None

    @classmethod
    def list_tasks(cls, facts: ProgramFacts) -> list[str]:
        return sorted({name for output in _OUTPUTS for name in list_served_tasks({output})})

    @classmethod
    def takes_one_image(cls, task: str) -> bool:
        return find_task(task).needs == {"boxes"}

    def describe_preprocessing(self) -> dict[str, Any]:
        if self.output == "boxes":
            return {"range": "0..1"}
        return {"transform": repr(self.transform)}

    def assemble(self, program: nn.Module) -> ProgramModel:
        signature = self.facts.signature
        if self.output == "boxes":
            batched = signature is not None and len(signature.input) == 4
            detector = OneImageDetector(program, batched)
            return ProgramModel(
                detector,
                self.transform,
                _use_one_bucket,
                max_batch=1,
                network_hw=_enlarge_short_side,
                forward_factor=_DETECTOR_FACTOR,
            )

        batch = signature.batch if signature else (1, None)
        logits = ChunkedLogits(program, len(self.categories), LOGITS_DIMS[self.output], batch)
        if self.output == "probabilities":
            segmenter = SegmenterNetwork(logits, self.transform)
            return ProgramModel(segmenter, self.transform, segmenter.compute_bucket)
        return ProgramModel(LogitsPerImage(logits), self.transform, _use_one_bucket)

    def _check_signature(self, signature: ProgramSignature) -> None:
        file = self.facts.file
        check_outputs(file, signature, self.task, self.output, self.list_tasks(self.facts))
        if self.output == "boxes":
            check_detector_input(file, signature, self.task)
        else:
            preset = self.settings.preprocess
            check_batch_input(file, signature.input, self.task, self.transform, preset)

    def _count_logits(self) -> int | None:
        """Return the number of classes that the logits have; None where the file does not tell."""
        signature = self.facts.signature
        shape = signature.main if signature and self.output != "boxes" else ()
        return shape[1] if shape else None


def _enlarge_short_side(size_hw: tuple[int, int]) -> tuple[int, int]:
    """Return a size whose shorter side has at least as many pixels as mobile detectors make it."""
    scale = max(1.0, _DETECTOR_SIDE / min(size_hw))
    return math.ceil(size_hw[0] * scale), math.ceil(size_hw[1] * scale)


def _use_one_bucket(size_hw: tuple[int, int]) -> Hashable:
    """Return the shape bucket that all images share."""
    return None
