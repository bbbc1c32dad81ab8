"""Run forward passes. If an input is bad or too large for the memory, only its image fails."""

from __future__ import annotations  # `Output` is a string at run time

import logging
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from pipeline.core.errors import PipelineError
from pipeline.core.protocols import Engine
from pipeline.core.types import Failure, ModelInput, Output, Outputs, Status
from pipeline.inference.grey_image import PROBE_HW
from pipeline.inference.watchdog import Watchdog

log = logging.getLogger(__name__)
_COMPILED_TIMEOUT_S = 3600.0  # any pass of a compiling engine may include compilation

Outcome: TypeAlias = "tuple[ModelInput, Output | Failure]"


class ForwardRunner:
    """Runs an engine on batches.

    A batch that fails is halved until the input that fails is alone. After a batch did not fit into
    memory, later batches are limited to the largest size that fitted.
    """

    def __init__(
        self, engine: Engine, watchdog: Watchdog, make_probe: Callable[[], Tensor]
    ) -> None:
        """Keep the parts. The watchdog's deadline for an image is also that of its forward pass.

        `make_probe` returns the model input of a plain grey image of 256 x 256 pixels.
        """
        self.engine, self.watchdog, self.make_probe = engine, watchdog, make_probe
        # An engine of a user may lack this attribute, which is younger than the others.
        compiles = getattr(engine, "compiles", False)
        self._least_timeout = _COMPILED_TIMEOUT_S if compiles else 0.0
        self._has_succeeded = False
        self._most_values = sys.maxsize  # limit for the number of tensor values in a batch

    def run(self, inputs: Sequence[ModelInput]) -> list[Outcome]:
        """Return each input with its output or with why it has none, in order.

        After a view has failed, later views of the same image may be left out.

        Raises:
            PipelineError: the model fails on every image.
        """
        if not inputs:
            return []
        most = max(1, self._most_values // inputs[0].pixels.numel())
        if len(inputs) > most:
            return self._run_parts(inputs[at : at + most] for at in range(0, len(inputs), most))

        try:
            return self._run_batch(inputs)
        except PipelineError:
            raise
        except Exception as caught:  # noqa: BLE001 - a network may raise anything
            # Drop the traceback. Its frames would keep the batch's memory during the retry.
            error = caught.with_traceback(None)

        if isinstance(error, torch.OutOfMemoryError):
            torch.cuda.empty_cache()
        if len(inputs) > 1:
            return self._retry_halves(inputs, error)
        if not self._has_succeeded:
            self._check_model(error)
        status = Status.OUT_OF_MEMORY if is_out_of_memory(error) else Status.MODEL_ERROR
        return [(inputs[0], Failure(status, f"{type(error).__name__}: {error}"))]

    def _run_batch(self, inputs: Sequence[ModelInput]) -> list[Outcome]:
        image_ids = [model_input.item.image_id for model_input in inputs]
        with self.watchdog.watch(image_ids, self._least_timeout):
            outputs = self.engine.forward(
                [model_input.pixels for model_input in inputs],
                [model_input.size_hw for model_input in inputs],
            )
        self._has_succeeded = True
        return list(zip(inputs, reject_non_finite(outputs), strict=True))

    def _run_parts(self, parts: Iterable[Sequence[ModelInput]]) -> list[Outcome]:
        """Run the parts of a batch one after the other. Skip further views of failed images."""
        outcomes: list[Outcome] = []
        failed: set[int] = set()
        for part in parts:
            outcomes_of_part = self.run([one for one in part if one.item.image_id not in failed])
            failed |= {
                model_input.item.image_id
                for model_input, outcome in outcomes_of_part
                if isinstance(outcome, Failure)
            }
            outcomes += outcomes_of_part
        return outcomes

    def _retry_halves(self, inputs: Sequence[ModelInput], error: Exception) -> list[Outcome]:
        half = len(inputs) // 2
        if is_out_of_memory(error):
            log.warning(
                "Not enough memory for a batch of %d: going on with %d of this size.",
                len(inputs),
                half,
            )
            self._most_values = half * inputs[0].pixels.numel()
        return self._run_parts([inputs[:half], inputs[half:]])

    def _check_model(self, error: Exception) -> None:
        """Check once, at the first failure, that the model can process a plain image.

        If it can, the failure is the image's. If not, raise PipelineError.
        """
        try:
            self.engine.forward([self.make_probe()], [PROBE_HW])
        except Exception:  # noqa: BLE001
            raise PipelineError(
                f"The model fails on every image: {type(error).__name__}: {error}"
            ) from error
        self._has_succeeded = True


def reject_non_finite(outputs: Outputs) -> list[Output | Failure]:
    """Replace outputs that contain NaN or infinity by failures.

    Every comparison of NaN with a threshold is false, so such an output would look like an image
    without detections.
    """
    floats = [
        [value for value in output.values() if value.is_floating_point()] for output in outputs
    ]
    # One check of all values together is much faster, and nearly always passes.
    together = torch.cat([value.reshape(-1) for values in floats for value in values])
    if bool(together.isfinite().all()):
        return list(outputs)
    failure = Failure(Status.MODEL_ERROR, "the model returned NaN or infinity")
    return [
        output if all(value.isfinite().all() for value in values) else failure
        for output, values in zip(outputs, floats, strict=True)
    ]


def is_out_of_memory(error: Exception) -> bool:
    """Return whether the error means too little memory, on a GPU or in the process."""
    # torch's CPU allocator raises a plain RuntimeError
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "not enough memory" in str(
        error
    )
