"""The ways to a program file, the most general first. Each is tried, and what came of it is looked at (`held.py`)."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.models.programs.signature import DETECTION_OUTPUTS

PROGRAM_FILES = {"onnx": "model.onnx", "pt2": "model.pt2", "torchscript": "model.pt"}
OPSET = 17  # the least that has what torchvision's networks need in one operator each
_OPSET_EXPORTED = 18  # the least that torch.onnx writes from an exported program


@dataclass(frozen=True)
class ExportMethod:
    """`write` leaves the file, or raises whatever an exporter raises."""

    how: str
    write: Callable[[Path], None]


def list_export_methods(
    to: str, task: str, network: nn.Module, example: Tensor
) -> list[ExportMethod]:
    """`network` as `original.original` gives it; `example`: an input of it, of several images where it takes batches."""
    return {"onnx": onnx_methods, "pt2": pt2_methods, "torchscript": torchscript_methods}[to](
        task, network, example
    )


def onnx_methods(task: str, network: nn.Module, example: Tensor) -> list[ExportMethod]:
    """Traced (a tenth of a second instead of seconds), or by way of torch.export, or traced with a batch of one. Weights are
    in the file, but of more than 2 GB, which ONNX's format cannot hold: these are beside it."""
    names = {"classify": ["logits"], "segment": ["out"], "detect": list(DETECTION_OUTPUTS)}[task]
    sizes = {} if task == "classify" else {example.dim() - 2: "height", example.dim() - 1: "width"}
    taken = "image" if task == "detect" else "images"

    def traced(file: Path, given: Tensor, dynamic: dict[int, str]) -> None:
        axes = {taken: dynamic} | {name: {0: "batch"} for name in names if 0 in dynamic}
        torch.onnx.export(
            network,
            (given,),
            file,
            dynamo=False,
            opset_version=OPSET,
            input_names=[taken],
            output_names=names,
            dynamic_axes={name: one for name, one in axes.items() if one},
        )

    def exported(file: Path) -> None:
        torch.onnx.export(
            network,
            (example,),
            file,
            dynamo=True,
            opset_version=_OPSET_EXPORTED,
            input_names=[taken],
            output_names=names,
            dynamic_shapes=(_dynamic_dimensions(example, task),),
            external_data=False,
            verbose=False,
        )

    if task == "detect":
        return [ExportMethod(f"traced, opset {OPSET}", lambda file: traced(file, example, sizes))]
    return [
        ExportMethod(
            f"traced, opset {OPSET}", lambda file: traced(file, example, {0: "batch", **sizes})
        ),
        ExportMethod(f"by torch.export, opset {_OPSET_EXPORTED}", exported),
        ExportMethod(
            f"traced with one image, opset {OPSET}", lambda file: traced(file, example[:1], sizes)
        ),
    ]


def pt2_methods(task: str, network: nn.Module, example: Tensor) -> list[ExportMethod]:
    """Sizes are as free as torch.export finds that they can be. It takes no detectors (`wanted.checked`)."""

    def exported(file: Path, given: Tensor, dynamic: dict[int, Any]) -> None:
        torch.export.save(torch.export.export(network, (given,), dynamic_shapes=(dynamic,)), file)

    free = _dynamic_dimensions(example, task)
    size_only = {at: one for at, one in free.items() if at}
    return [
        ExportMethod("by torch.export", lambda file: exported(file, example, free)),
        ExportMethod(
            "by torch.export with one image", lambda file: exported(file, example[:1], size_only)
        ),
    ]


def torchscript_methods(task: str, network: nn.Module, example: Tensor) -> list[ExportMethod]:
    """Scripted: its branches and loops are those of the Python code, so it holds no shape. Traced where that fails. A
    detector keeps the interface of a scripted torchvision one: a list of images -> (losses, detections)."""
    inner: Any = network
    if task == "detect":
        inner = network.network
        inner._has_warned = True  # of these losses; else it would, from within the program
    scripted = ExportMethod("scripted", lambda file: torch.jit.script(inner).save(file))
    if task == "detect":
        return [scripted]
    return [
        scripted,
        ExportMethod(
            "traced", lambda file: torch.jit.trace(network, (example,), strict=False).save(file)
        ),
    ]


@contextmanager
def silence_exporters() -> Iterator[None]:
    """Exporters warn of what is looked at afterwards anyway: shapes that a trace may hold, ways that are deprecated; and
    what they cannot do they print, graph and all. Attention takes its plain path: the fused one is no operator of ONNX's."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)


def _dynamic_dimensions(example: Tensor, task: str) -> dict[int, Any]:
    """Dimensions that are to be free: the batch; of a segmenter height and width too."""
    return dict.fromkeys([0] if task == "classify" else [0, 2, 3], torch.export.Dim.AUTO)
