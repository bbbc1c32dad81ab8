"""Methods of exporting a network to a program file, the most general first.

`shape_probes.py` tries each method and tests the program that it writes.
"""

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
OPSET = 17  # the lowest that has a single operator for each layer of torchvision's networks
_OPSET_EXPORTED = 18  # the lowest that torch.onnx writes from a torch.export program


@dataclass(frozen=True)
class ExportMethod:
    """One way to export. `write` creates the file; it may raise any exception of an exporter."""

    how: str
    write: Callable[[Path], None]


def list_export_methods(
    to: str, task: str, network: nn.Module, example: Tensor
) -> list[ExportMethod]:
    """List the methods for a program format, the most general first.

    Args:
        to: onnx, pt2 or torchscript.
        task: The task.
        network: What `reference_network.extract_network` returns.
        example: An input of the network; a batch of several images if it takes batches.
    """
    return {"onnx": onnx_methods, "pt2": pt2_methods, "torchscript": torchscript_methods}[to](
        task, network, example
    )


def onnx_methods(task: str, network: nn.Module, example: Tensor) -> list[ExportMethod]:
    """List the ways to export to ONNX: tracing, torch.export, and tracing with one image.

    Weights are stored in the file, or beside it if they exceed ONNX's limit of 2 GB.
    """
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
    """List the ways to make a torch.export program, which finds itself which sizes are dynamic.

    Detectors are not supported (see `request.check_request`).
    """

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
    """List the ways to export to TorchScript: scripting, and tracing if that fails.

    A scripted program keeps the branches of the Python code, so it is not restricted to one
    shape. A detector keeps the interface of scripted torchvision detectors: a list of images ->
    (losses, detections).
    """
    inner: Any = network
    if task == "detect":
        inner = network.network
        inner._has_warned = True  # otherwise the program itself would warn about the losses
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
    """Silence exporters and disable the fused attention path, which ONNX cannot express.

    Their warnings are about deprecations and about shapes, which are tested afterwards. When they
    fail, they print whole graphs.
    """
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)


def _dynamic_dimensions(example: Tensor, task: str) -> dict[int, Any]:
    """Mark the dynamic dimensions: the batch, and for a segmenter also height and width."""
    return dict.fromkeys([0] if task == "classify" else [0, 2, 3], torch.export.Dim.AUTO)
