"""Settings of the model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from omegaconf import OmegaConf

from pipeline.config.declare import nested_settings, setting
from pipeline.config.validators import (
    build_refusal,
    check_choice,
    check_flag,
    check_integer,
    check_mapping,
    check_optional_text,
    check_text,
    is_list,
    is_positive,
)


def check_anchor_sizes(key: str, value: Any) -> list[list[float]] | None:
    """Accept a list of sizes for each level, [[32], [64, 90]], or one size for each, [32, 64]."""
    if value is None:
        return None

    given = OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
    items: Sequence[Any] = given if isinstance(given, list) else []
    levels = [item if isinstance(item, list) else [item] for item in items]

    if not levels or not all(level and all(map(is_positive, level)) for level in levels):
        raise build_refusal(
            key, value, "pixels by level, such as [[32], [64], [128]] or [32, 64, 128]"
        )
    return [[float(size) for size in level] for level in levels]


def check_anchor_ratios(key: str, value: Any) -> list[float] | None:
    if value is None:
        return None

    ratios = list(value) if is_list(value) else []
    if not ratios or not all(map(is_positive, ratios)):
        raise build_refusal(key, value, "height / width, such as [0.5, 1, 2]")
    return [float(ratio) for ratio in ratios]


@dataclass(frozen=True)
class AnchorSettings:
    """Anchor boxes of a detector."""

    sizes: list[list[float]] | None = setting(
        check_anchor_sizes,
        None,
        "anchor sizes for each level of feature maps, in pixels of the network's input: [[32], "
        "[64], [128]]; for FCOS its strides; null: those of the torchvision builder",
    )
    ratios: list[float] | None = setting(
        check_anchor_ratios,
        None,
        "height / width, for every level: [0.5, 1, 2]; null: those of the torchvision builder",
    )


@dataclass(frozen=True)
class ModelSettings:
    """The model."""

    # None is replaced by the task's default when settings are composed, so the type has no None.
    model: str = setting(
        check_optional_text,
        None,
        "a torchvision builder; codes (the embedded detector); a .safetensors file made by "
        "`train`; fasterrcnn with backbone=; a program's file (.onnx, .torchscript, .pt2); or "
        "onnx, pt2, torchscript with a file in weights=; null: the task's default",
    )
    weights: str = setting(
        check_text,
        "DEFAULT",
        "DEFAULT, a name such as COCO_V1, random, or a file (.safetensors, .pth, .onnx, .pt2, .pt)",
    )
    categories: str | None = setting(
        check_optional_text,
        None,
        "class names, if the weights file has none: coco, imagenet, or a text, JSON or YAML file",
    )
    preprocess: str = setting(
        check_text,
        "DEFAULT",
        "for a weights file: the torchvision weights whose preprocessing it was trained with",
    )
    channels: str = setting(
        check_choice("rgb", "bgr"), "rgb", "bgr for a model trained on blue-green-red images"
    )
    model_args: Mapping[str, Any] = setting(
        check_mapping,
        None,
        "arguments for the torchvision builder, for example {box_detections_per_img: 300}",
    )
    trust_code: bool = setting(
        check_flag,
        False,
        "TorchScript and .pt2 files can run code; true: you trust this file",
    )
    seed: int = setting(
        check_integer(0), 0, "seed of weights=random and of the random choices of training"
    )
    backbone: str | None = setting(
        check_optional_text,
        None,
        "for model=fasterrcnn: a torchvision classifier with shrinking feature maps, for example "
        "mobilenet_v2",
    )
    anchors: AnchorSettings = nested_settings(AnchorSettings, "ratios: [0.5, 1, 2]")
