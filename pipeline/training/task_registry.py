"""The tasks that can be trained, their checks and their learners."""

from typing import Any

import numpy as np
from torch import nn
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from pipeline.annotations.dataset_listing import ProblemList
from pipeline.config.settings import Settings
from pipeline.core.errors import ConfigError
from pipeline.core.locations import Uri, parse_location
from pipeline.models.networks.detector import compute_resized_hw
from pipeline.models.torchvision_builders import get_builder_tasks
from pipeline.training.data_protocols import ExampleSet, TrainingData
from pipeline.training.learners.classification_learner import ClassificationLearner
from pipeline.training.learners.detection_learner import DetectionLearner
from pipeline.training.learners.learner import Learner
from pipeline.training.learners.segmentation_learner import SegmentationLearner

_KINDS = {"detect": ["boxes"], "instances": ["masks", "boxes"], "keypoints": ["keypoints", "boxes"]}
DETECTION = tuple(_KINDS)
TASKS = (*DETECTION, "segment", "classify")


def check_task(settings: Settings) -> None:
    """Raise ConfigError if the task cannot be trained or the output is not a local folder."""
    if settings.task not in TASKS:
        raise ConfigError(f"task={settings.task} cannot be trained; expected {', '.join(TASKS)}.")
    if isinstance(parse_location(settings.output), Uri):
        raise ConfigError(
            f"output={settings.output}: train writes to this machine's disk; name a local folder."
        )


def check_data_fits_task(task: str, architecture: str, examples: TrainingData) -> None:
    """Raise ConfigError if the examples lack what the network's losses need."""
    more = get_builder_tasks(architecture) - {"detect"}
    if task == "detect" and more:
        raise ConfigError(
            f"task=detect: {architecture} learns from more than boxes; "
            f"say task={' or '.join(sorted(more))}, or choose another model, "
            "such as fasterrcnn_resnet50_fpn."
        )
    if task == "keypoints" and not examples.keypoint_names:
        raise ConfigError(
            "task=keypoints: the data has no keypoints, or does not name them "
            "(COCO: categories[].keypoints)."
        )
    if task == "classify" and len(examples.categories) < 2:
        raise ConfigError(
            f"task=classify: the data has one class, {examples.categories[0]}, and at least two "
            "are needed. Add a folder of images that show something else."
        )


def check_sizes(network: nn.Module, *parts: ExampleSet) -> None:
    """Raise ConfigError if a detector's resizing would make the short side of an image 0."""
    resize = getattr(network, "transform", None)
    if not isinstance(resize, GeneralizedRCNNTransform):
        return
    problems = ProblemList("Images that are too thin for this model")
    for part in parts:
        sizes_hw = part.sizes_hw
        for size_hw in np.unique(sizes_hw, axis=0).tolist():
            if _becomes_empty(resize, size_hw):
                for number in np.flatnonzero((sizes_hw == size_hw).all(axis=1)).tolist():
                    problems.add(f"{part.name(number)}: {size_hw[1]}x{size_hw[0]} pixels")
    problems.raise_if_any()


def _becomes_empty(resize: GeneralizedRCNNTransform, size_hw: list[int]) -> bool:
    half = max(1, min(size_hw) // 2)  # augmentation may crop an image to half its short side
    try:
        compute_resized_hw(resize, (half, max(size_hw)))
    except ValueError:
        return True
    return False


def build_learner(task: str, examples: TrainingData, normalize: nn.Module) -> Learner:
    """Build the learner of a task. `normalize` turns uint8 images into network input."""
    if task == "classify":
        return ClassificationLearner(examples.categories, normalize)
    if task == "segment":
        return SegmentationLearner(examples.categories, normalize)
    return DetectionLearner(examples.categories, _KINDS[task], examples.keypoint_names)


def find_input_size(transform: Any) -> tuple[tuple[int, int] | None, int | None]:
    """Read the input size of a torchvision preset.

    Segmentation presets do not crop. Their images are cropped to squares, so that they can be
    stacked into a batch.

    Returns:
        The (height, width) of the crop, and the length of the shorter side before the crop. Each is
        None if the preset does not have it.
    """
    crop, resize = getattr(transform, "crop_size", None), getattr(transform, "resize_size", None)
    side = int(resize[0] if isinstance(resize, list | tuple) else resize) if resize else None
    if crop is None:
        return ((side, side) if side else None), side
    return (int(crop[0]), int(crop[-1])), side
