"""Make small models in every format that a user's own model can have."""

import warnings
from pathlib import Path

import onnx
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn

FORMATS = {"torchscript": ".pt", "pt2": ".pt2", "onnx": ".onnx"}
CLASSIFIER = "preprocess=MobileNet_V2_Weights.IMAGENET1K_V1"
SEGMENTER = "preprocess=FCN_ResNet50_Weights.COCO_WITH_VOC_LABELS_V1"


class Classifier(nn.Module):
    """A classifier: images (B, 3, h, w) -> logits (B, 5)."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.features = nn.Conv2d(3, 8, 3, stride=4)
        self.head = nn.Linear(8, 5)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images).relu().mean(dim=(2, 3))) * 9


class Regions(nn.Module):
    """A segmenter with the outputs of torchvision's.

    Images (B, 3, h, w) -> {"out": logits (B, 4, h / 8, w / 8), "aux": other logits}.
    """

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.features = nn.Conv2d(3, 4, 8, stride=8)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        logits = self.features(images)
        return {"out": logits, "aux": -logits}


def save(
    model: nn.Module, kind: str, folder: Path, example: Tensor, dynamic: dict[int, str]
) -> Path:
    """Save a model in a format.

    Args:
        model: The model.
        kind: A key of `FORMATS`.
        folder: Folder of the new file.
        example: An input.
        dynamic: Dimensions of the input whose size is free -> their names.

    Returns:
        The new file.
    """
    file = folder / f"own{FORMATS[kind]}"
    sizes = dict.fromkeys(dynamic, torch.export.Dim.DYNAMIC)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporters; the code under test does not run here
        if kind == "torchscript":
            torch.jit.script(model.eval()).save(file)
        elif kind == "pt2":
            torch.export.save(
                torch.export.export(model.eval(), (example,), dynamic_shapes=(sizes,)), file
            )
        else:  # the older exporter, which is much faster
            names = list(model(example)) if isinstance(model(example), dict) else ["logits"]
            axes = {"images": dynamic, names[0]: {0: "batch"} if 0 in dynamic else {}}
            torch.onnx.export(
                model.eval(),
                (example,),
                file,
                dynamo=False,
                input_names=["images"],
                output_names=names,
                dynamic_axes=axes,
            )
    return file


def tiny_onnx(
    file: Path,
    shape: list[int | str],
    kind: int = TensorProto.FLOAT,
    outputs: int = 1,
    external: bool = False,
) -> Path:
    """Save an ONNX graph, built by hand, whose logits are the weighted means of the channels.

    It has `outputs` outputs with the same logits.
    """
    names = [f"logits{i}" for i in range(outputs)]
    nodes = [helper.make_node("Cast", ["images"], ["float"], to=TensorProto.FLOAT)]
    nodes += [
        helper.make_node("GlobalAveragePool", ["float"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
    ]
    nodes += [helper.make_node("Mul", ["flat", "weights"], [name]) for name in names]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("images", kind, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [shape[0], 3]) for name in names],
        [
            helper.make_tensor(
                "weights",
                TensorProto.FLOAT,
                [3],
                torch.tensor([1.0, 2.0, 3.0]).numpy().tobytes(),
                raw=True,
            )
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    if external:
        onnx.save(
            model,
            file,
            save_as_external_data=True,
            location=f"{file.stem}.weights",
            size_threshold=0,
        )
    else:
        onnx.save(model, file)
    return file
