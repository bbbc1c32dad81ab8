"""Engine `fast`: uses the fastest precision of the hardware, and compiles for long runs."""

import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch._inductor import config as inductor
from torch.utils import _pytree as pytree

from pipeline.core.errors import ConfigError
from pipeline.core.types import Model
from pipeline.inference.devices import has_native_bf16
from pipeline.inference.engine_base import BaseEngine

log = logging.getLogger(__name__)
# Below these numbers of images, compilation takes longer than it saves.
_LEAST_IMAGES = {"one shape": 3_000, "many shapes": 12_000}


class Fast(BaseEngine):
    """Runs the network at low precision and compiles the submodules that the model names.

    If all inputs of a model have one shape, the code is compiled for this shape and the batch size.
    A smaller batch is padded to this size; a batch of half the size or less runs uncompiled. If the
    inputs have different shapes, the code is compiled for any shape.

    Args:
        device: auto, cpu, cuda, cuda:N or mps.
        precision: None is bf16 where the hardware has it, fp16 on older GPUs, else fp32.
        compile: True, False, or "auto": compile if the run has enough images to earn back the half
            minute or more that compilation takes.
    """

    tf32 = True
    exact_precisions = frozenset()  # not even fp32, because images are resized in uint8

    def __init__(self, device: str, precision: str | None, compile: bool | str) -> None:
        if compile not in (True, False, "auto"):
            raise ConfigError(f"engine.compile={compile}: expected true, false or auto.")
        super().__init__(device, precision or "fp32")
        self.compile = compile
        if precision is None:
            self.precision = self._choose_precision()

    def prepare(self, model: Model) -> Model:
        if model.full_precision_only:
            raise ConfigError(
                "This model runs at its own precision, as it is: engine=fast has nothing to offer "
                "it. Leave it out."
            )
        super().prepare(model)
        self.model = model
        return replace(model, preprocess=model.fast_preprocess or model.preprocess)

    def prepare_for_run(self, images: int, batch_size: int) -> None:
        """Compile the network if compilation saves time for this number of images."""
        is_bf16_emulated = (
            self.precision == "bf16"
            and self.device_type == "cpu"
            and not has_native_bf16(self.device)
        )
        if is_bf16_emulated:
            # torch 2.15 packs such weights for instructions that this CPU lacks, and stops at the
            # second batch.
            log.warning(
                "Not compiled: this CPU computes bf16 by way of fp32. precision=fp32 can be "
                "compiled."
            )
            return
        has_one_shape = self.model.bucket((480, 640)) == self.model.bucket((640, 480))
        least_images = _LEAST_IMAGES["one shape" if has_one_shape else "many shapes"]
        if self.compile is True or (self.compile == "auto" and images >= least_images):
            self._compile_parts(batch_size if has_one_shape else None)

    def _compile_parts(self, batch_size: int | None) -> None:
        # Freezing makes weights constants, which are packed once. It works only as a global
        # setting, not as an option of torch.compile.
        inductor.freezing = True
        self.compiles = True
        # Hide the warning "No CUDA runtime is found".
        logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
        for name in self.model.compilable:
            parent, _, attribute = name.rpartition(".")
            compiled = CompiledModule(
                self.network.get_submodule(name), batch_size, self.device_type
            )
            setattr(self.network.get_submodule(parent), attribute, compiled)

    def _choose_precision(self) -> str:
        if has_native_bf16(self.device):
            return "bf16"
        return "fp16" if self.device_type == "cuda" else "fp32"


class CompiledModule(nn.Module):
    """A module that is compiled when it is first called.

    Its only argument is a batch (B, ...) or a list of batches. If compilation fails, it logs a
    warning and runs the module uncompiled from then on.
    """

    def __init__(self, module: nn.Module, batch_size: int | None, device_type: str) -> None:
        """`batch_size` is set if all inputs have one shape, and None if they have many shapes."""
        super().__init__()
        self.module, self.batch_size = module, batch_size
        has_one_shape = batch_size is not None
        # Each module needs a backend of its own. PyTorch shares code between calls of one `forward`
        # with equal backends. It would distinguish two networks only by the guards that are dropped
        # below.
        backend = partial(
            torch._inductor.compile,
            options={"triton.cudagraphs": device_type == "cuda" and has_one_shape},
        )
        # Only the input changes between calls. Checking every layer too takes 0.7 of 20 ms a batch.
        options: dict[str, Any] | None = (
            {"guard_filter_fn": torch.compiler.keep_tensor_guards_unsafe} if has_one_shape else None
        )
        self._compiled: Callable[..., Any] | None = torch.compile(
            module, dynamic=not has_one_shape, backend=backend, options=options
        )
        self._has_run = False

    def forward(self, batch: Any) -> Any:
        images = len(pytree.tree_leaves(batch)[0])
        if self._compiled is None or not self._is_worth_compiled(images):
            return self.module(batch)

        missing = (self.batch_size or images) - images
        filled = (
            pytree.tree_map(lambda tensor: _repeat_last(tensor, missing), batch)
            if missing
            else batch
        )
        try:
            outputs = self._compiled(filled)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # no compiler, its error, or an input that fails uncompiled, too
            if self._has_run:
                raise
            self._compiled = None
            reason = " ".join(str(error).strip().splitlines()[:1])[:200]
            log.warning("Not compiled, runs as it is: %s", reason or type(error).__name__)
            return self.module(batch)
        self._has_run = True
        return pytree.tree_map(lambda tensor: tensor[:images], outputs) if missing else outputs

    def _is_worth_compiled(self, images: int) -> bool:
        """Return whether compiled code is faster for a batch of this size."""
        if self.batch_size is None:
            return images > 1
        return self.batch_size // 2 < images <= self.batch_size


def _repeat_last(batch: Tensor, times: int) -> Tensor:
    """Append the last image of a batch (B, ...) `times` times."""
    return torch.cat([batch, batch[-1:].expand(times, *batch.shape[1:])])
