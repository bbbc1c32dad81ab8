"""Check a program's signature against the task and the preprocessing."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from pipeline.core.errors import ConfigError
from pipeline.models.programs.signature import (
    DETECTION_OUTPUTS,
    ProgramSignature,
    Shape,
    format_shape,
)

LOGITS_DIMS = {"logits": 2, "probabilities": 4}  # of what such a program returns
_PHOTOGRAPHS_HW = ((480, 640), (640, 480))  # sizes on which the preprocessing is tried


def check_outputs(
    file: Path, signature: ProgramSignature, task: str, output: str, tasks: Sequence[str]
) -> None:
    """Check the number of outputs, or the dimensions of the logits.

    Args:
        file: The program's file, for messages.
        signature: The shapes in the file.
        task: The task that the program is used for.
        output: What the task needs: `logits`, `boxes` or `probabilities`.
        tasks: The tasks that the format can serve, for messages.

    Raises:
        ConfigError: The task expects other outputs.
    """
    if output == "boxes":
        expected = ", ".join(DETECTION_OUTPUTS)
        is_wrong = len(signature.outputs) < len(DETECTION_OUTPUTS)
    else:
        expected = "batch x classes" + " x height x width" * (output == "probabilities")
        is_wrong = bool(signature.main) and len(signature.main) != LOGITS_DIMS[output]
    if is_wrong:
        given = "; ".join(
            f"{name} {format_shape(shape)}" for name, shape in signature.outputs.items()
        )
        raise ConfigError(
            f"{file} gives {given}; task={task} expects {expected}. If it is made for another "
            f"task, say task={' or '.join(other for other in tasks if other != task)}."
        )


def check_detector_input(file: Path, signature: ProgramSignature, task: str) -> None:
    """Check that a detector takes one image of any size.

    Raises:
        ConfigError: The program takes another input.
    """
    shape, (smallest_batch, _) = signature.input, signature.batch
    if len(shape) not in (3, 4) or shape[-3] not in (3, None):
        raise ConfigError(
            f"{file} takes {format_shape(shape)}; task={task} gives 3 x height x width, one image."
        )
    if shape[-2:] != (None, None) or (len(shape) == 4 and smallest_batch > 1):
        raise ConfigError(
            f"{file} takes {format_shape(shape)} only; task={task} gives it one image at a time, "
            "at its own size. Export it with dynamic height and width, and a batch of one or of "
            "any size."
        )


def check_batch_input(
    file: Path, shape: Shape, task: str, transform: Callable[[Tensor], Tensor], preset: str
) -> None:
    """Check that a program takes batches of preprocessed photographs.

    Args:
        file: The program's file, for messages.
        shape: Shape of the program's input.
        task: The task that the program is used for.
        transform: The preprocessing, (3, H, W) uint8 -> (3, h, w).
        preset: The value of `preprocess`, for messages.

    Raises:
        ConfigError: The program takes another shape.
    """
    if len(shape) != 4 or shape[-3] not in (3, None):
        raise ConfigError(
            f"{file} takes {format_shape(shape)}; task={task} gives batch x 3 x height x width."
        )
    for height, width in _PHOTOGRAPHS_HW:
        prepared_hw = transform(torch.zeros(3, height, width, dtype=torch.uint8)).shape[-2:]
        sizes = zip(shape[-2:], prepared_hw, strict=True)
        if any(fixed not in (size, None) for fixed, size in sizes):
            raise ConfigError(
                f"{file} takes {format_shape(shape[-2:])} pixels (height x width) only; "
                f"preprocess={preset} makes {format_shape(tuple(prepared_hw))} of a photograph of "
                f"{height} x {width}. Choose another preprocess=, or export the model with "
                "dynamic height and width."
            )
