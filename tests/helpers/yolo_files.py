"""Make YOLO files whose detections are known: every cell of 32 x 32 pixels is one box."""

import json
import warnings
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor, nn

NAMES = {0: "red", 1: "green"}


class Cells(nn.Module):
    """Return each cell's box, mean red and mean green: (B, 3, h, w) in 0..1 -> (B, 6, cells)."""

    def forward(self, images: Tensor) -> Tensor:
        scores = nn.functional.avg_pool2d(images[:, :2], 32)
        ones = torch.ones_like(scores[:, :1])
        x = (ones.cumsum(3) - 0.5) * 32.0
        y = (ones.cumsum(2) - 0.5) * 32.0
        side = ones * 32.0
        return torch.cat([x, y, side, side, scores], dim=1).flatten(2)


def describe_file(**changes: Any) -> dict[str, Any]:
    """Return the metadata that Ultralytics writes, with changes; None leaves an entry out."""
    metadata = {
        "task": "detect",
        "head": "Detect",
        "names": NAMES,
        "stride": 32,
        "imgsz": [64, 64],
        "batch": 1,
        "args": {"dynamic": False, "nms": None},
        "end2end": False,
    }
    return {key: value for key, value in (metadata | changes).items() if value is not None}


def save_onnx(
    folder: Path, dynamic: bool = False, module: nn.Module | None = None, **changes: Any
) -> Path:
    """Save a YOLO file in ONNX. `changes` are those of the metadata."""
    file = folder / "best.onnx"
    axes = {0: "batch", 2: "height", 3: "width"} if dynamic else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter
        torch.onnx.export(
            module or Cells(),
            (torch.zeros(1, 3, 64, 64),),
            file,
            dynamo=False,
            input_names=["images"],
            output_names=["output0"],
            dynamic_axes={"images": axes, "output0": {0: "batch", 2: "anchors"} if dynamic else {}},
        )
    graph = onnx.load(file)
    texts = {key: str(value) for key, value in describe_file(**changes).items()}
    onnx.helper.set_model_props(graph, texts)
    onnx.save(graph, file)
    return file


def save_torchscript(folder: Path, **changes: Any) -> Path:
    """Save a YOLO file in TorchScript, with its metadata inside."""
    file = folder / "best.torchscript"
    metadata = json.dumps(describe_file(**changes))
    torch.jit.script(Cells()).save(file, _extra_files={"config.txt": metadata})
    return file
