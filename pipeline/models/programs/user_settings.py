"""Settings of the user for facts that a program's file lacks: preprocessing and class names."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torchvision.transforms.functional import convert_image_dtype

from pipeline.config.settings import Settings
from pipeline.core.errors import ConfigError
from pipeline.models.class_names import add_background, load_categories
from pipeline.models.torchvision_builders import find_published_transform

_EXAMPLE_PRESETS = {
    "logits": "MobileNet_V2_Weights.IMAGENET1K_V1",
    "probabilities": "DeepLabV3_ResNet50_Weights.COCO_WITH_VOC_LABELS_V1",
}


def find_transform(settings: Settings, output: str, file: Path) -> Callable[[Tensor], Tensor]:
    """Return the preprocessing that `preprocess` names; for detectors uint8 -> 0..1.

    Args:
        settings: The run's settings.
        output: What the program returns: `logits`, `boxes` or `probabilities`.
        file: The program's file, for messages.

    Raises:
        ConfigError: `preprocess` is missing, unknown, or set for a detector.
    """
    preset = settings.preprocess
    if output == "boxes":
        if preset != "DEFAULT":
            raise ConfigError(
                f"preprocess={preset}: a detector gets float 0..1 at the image's own size; "
                "leave it out."
            )
        return lambda image: convert_image_dtype(image, torch.float32)
    if preset == "DEFAULT":
        raise ConfigError(
            f"{file} does not say how its images are to be prepared, and a wrong way gives wrong "
            "results without an error. Name the torchvision weights whose preprocessing it "
            f"expects: preprocess={_EXAMPLE_PRESETS[output]}"
        )
    return find_published_transform(preset, settings.task)


def load_program_categories(
    settings: Settings, output: str, file: Path, n_outputs: int | None
) -> tuple[str, ...]:
    """Load the class names that `categories` names.

    Args:
        settings: The run's settings.
        output: What the program returns: `logits`, `boxes` or `probabilities`.
        file: The program's file, for messages.
        n_outputs: The number of classes that the program's logits have; None: unknown.

    Raises:
        ConfigError: `categories` is missing, or the number of names is wrong.
    """
    given, is_detector = settings.categories, output == "boxes"
    if not given:
        builtin = "coco" if is_detector else "imagenet"
        problem = "carries no class names"
        if n_outputs is not None:
            problem = f"has {n_outputs} outputs and no class names"
        raise ConfigError(
            f"{file} {problem}: say categories={builtin}, or categories=FILE with one name a line."
        )

    names = load_categories(given)
    if is_detector:
        return add_background(names)
    if n_outputs is not None and n_outputs != len(names):
        raise ConfigError(
            f"{file} has {n_outputs} outputs, but categories={given} has {len(names)} names. "
            "Expected one name for each output, in their order."
        )
    return names
