"""The network at the precision that the hardware is fast at, compiled where that pays."""

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
_LEAST_IMAGES = {
    "one shape": 3_000,
    "many shapes": 12_000,
}  # below, compiling takes longer than it saves


class Fast(BaseEngine):
    """`precision`: null is bf16 where the hardware has it (fp16 on older GPUs), else fp32. `compile`: true, false, or auto:
    where the run has images enough to earn back the half minute or more that it takes.

    What is compiled are the parts that the model names. A model whose inputs have one shape gets code for this very shape
    and batch size: short batches are filled up, those of half and less run uncompiled. Otherwise the code is for any shape.
    """

    tf32 = True
    exact_at = frozenset()  # images are resized in uint8

    def __init__(self, device: str, precision: str | None, compile: bool | str) -> None:
        if compile not in (True, False, "auto"):
            raise ConfigError(f"engine.compile={compile}: expected true, false or auto.")
        super().__init__(device, precision or "fp32")
        self.compile = compile
        if precision is None:
            self.precision = self._best_precision()

    def prepare(self, model: Model) -> Model:
        if model.full_precision_only:
            raise ConfigError(
                "This model runs at its own precision, as it is: engine=fast has nothing to offer it. Leave it out."
            )
        super().prepare(model)
        self.model = model
        return replace(model, preprocess=model.fast_preprocess or model.preprocess)

    def expect(self, images: int, batch_size: int) -> None:
        if (
            self.precision == "bf16"
            and self.device_type == "cpu"
            and not has_native_bf16(self.device)
        ):
            # torch 2.15 packs such weights for instructions that this CPU has not, and stops at the second batch
            log.warning(
                "Not compiled: this CPU computes bf16 by way of fp32. precision=fp32 can be compiled."
            )
            return
        one_shape = self.model.bucket((480, 640)) == self.model.bucket((640, 480))
        enough = images >= _LEAST_IMAGES["one shape" if one_shape else "many shapes"]
        if self.compile is True or (self.compile == "auto" and enough):
            inductor.freezing = True  # weights are constants: packed once. As an option of torch.compile it has no effect
            logging.getLogger("torch.utils.cpp_extension").setLevel(
                logging.ERROR
            )  # "No CUDA runtime is found"
            for name in self.model.compilable:
                parent, _, last = name.rpartition(".")
                part = CompiledModule(
                    self.network.get_submodule(name),
                    batch_size if one_shape else None,
                    self.device_type,
                )
                setattr(self.network.get_submodule(parent), last, part)

    def _best_precision(self) -> str:
        if has_native_bf16(self.device):
            return "bf16"
        return "fp16" if self.device_type == "cuda" else "fp32"


class CompiledModule(nn.Module):
    """A module of which the first argument is a batch (B, ...) or a list of them, compiled when it is first called."""

    def __init__(self, module: nn.Module, batch_size: int | None, device_type: str) -> None:
        """`batch_size`: of the one shape that the inputs have; None: they have many."""
        super().__init__()
        self.module, self.batch_size = module, batch_size
        one_shape = batch_size is not None
        # A backend of its own, because code is kept for every use of a class's `forward` with an equal backend, and only the
        # guards that are dropped here would tell one network's weights from another's.
        backend = partial(
            torch._inductor.compile,
            options={"triton.cudagraphs": device_type == "cuda" and one_shape},
        )
        # Nothing but the input changes: to look at every layer again at every call took 0.7 of 20 ms a batch.
        options: dict[str, Any] | None = (
            {"guard_filter_fn": torch.compiler.keep_tensor_guards_unsafe} if one_shape else None
        )
        self._compiled: Callable[..., Any] | None = torch.compile(
            module, dynamic=not one_shape, backend=backend, options=options
        )
        self._has_run = False

    def forward(self, batch: Any) -> Any:
        images = len(pytree.tree_leaves(batch)[0])
        worth = (
            images > 1
            if self.batch_size is None
            else self.batch_size // 2 < images <= self.batch_size
        )
        if self._compiled is None or not worth:
            return self.module(batch)
        missing = (self.batch_size or images) - images
        filled = (
            pytree.tree_map(lambda one: _repeat_last(one, missing), batch) if missing else batch
        )
        try:
            outputs = self._compiled(filled)
        except torch.OutOfMemoryError:
            raise
        except (
            Exception
        ) as error:  # no compiler, a compiler's fault, or an input that fails uncompiled as well
            if self._has_run:
                raise
            self._compiled = None
            said = " ".join(str(error).strip().splitlines()[:1])[:200]
            log.warning("Not compiled, runs as it is: %s", said or type(error).__name__)
            return self.module(batch)
        self._has_run = True
        return pytree.tree_map(lambda one: one[:images], outputs) if missing else outputs


def _repeat_last(batch: Tensor, times: int) -> Tensor:
    return torch.cat([batch, batch[-1:].expand(times, *batch.shape[1:])])
