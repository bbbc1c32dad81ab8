"""torchvision's builders by name: outputs, tasks that they serve, and published weights."""

from collections.abc import Callable
from functools import cache

from torch import Tensor
from torchvision.models import WeightsEnum, get_model_builder, get_model_weights, list_models

from pipeline.config.task_classes import list_served_tasks
from pipeline.core.errors import ConfigError, suggest_nearest

BUNDLED_MODEL = "codes"  # the detector in data/, for the samples and for codes in photographs
FASTERRCNN = "fasterrcnn"  # Faster R-CNN on a classifier of the user's choice: `backbone`
# The builder whose preprocessing and class names `fasterrcnn` has where nothing else is set.
_FASTERRCNN_REFERENCE = "fasterrcnn_resnet50_fpn"

_OUTPUTS_OF_MODULE = {  # by the last part of the builder's module
    "mask_rcnn": frozenset({"boxes", "masks"}),
    "keypoint_rcnn": frozenset({"boxes", "keypoints"}),
}
_CLIP_FAMILY = "video"
_OUTPUTS_OF_FAMILY = {  # by the sub-package of torchvision.models
    "": frozenset({"logits", "embedding"}),
    "detection": frozenset({"boxes"}),
    "segmentation": frozenset({"probabilities"}),
    _CLIP_FAMILY: frozenset({"logits"}),
    "quantization": frozenset({"logits", "embedding"}),
}


def list_builder_names() -> list[str]:
    """Return the names of torchvision's builders, and `fasterrcnn`."""
    return [*list_models(), FASTERRCNN]


@cache
def get_builder_tasks(name: str) -> frozenset[str]:
    """Return the names of the tasks that a builder can serve."""
    return frozenset(list_served_tasks(get_builder_outputs(name), builder_takes_clips(name)))


def get_builder_outputs(name: str) -> frozenset[str]:
    """Return what a builder's network returns for each input; empty where no task can use it."""
    family, module = _find_module(name)
    return _OUTPUTS_OF_MODULE.get(module) or _OUTPUTS_OF_FAMILY.get(family, frozenset())


def builder_takes_clips(name: str) -> bool:
    """Return whether a builder's inputs are clips of videos."""
    return _find_module(name)[0] == _CLIP_FAMILY


def _find_module(name: str) -> tuple[str, str]:
    """Return family and module of a builder in torchvision: ("detection", "mask_rcnn")."""
    if name == FASTERRCNN:
        return "detection", "faster_rcnn"
    path = get_model_builder(name).__module__.removeprefix("torchvision.models.")
    family, _, module = path.rpartition(".")
    return family, module


def is_quantized(name: str) -> bool:
    """Return whether a builder makes an int8 network, such as `quantized_resnet18`."""
    return name != FASTERRCNN and get_model_builder(name).__module__.startswith(
        "torchvision.models.quantization."
    )


def check_builder(name: str, task: str, other_models: list[str]) -> None:
    """Raise ConfigError unless there is a builder of this name that can serve the task.

    Args:
        name: The value of `model`.
        task: The task's name.
        other_models: Further values of `model` to suggest for a misspelt name.
    """
    names = list_builder_names()
    serving = [n for n in names if task in get_builder_tasks(n)]
    if name not in names:
        raise ConfigError(
            f"model={name}: torchvision has no builder of this name."
            f"{suggest_nearest(name, [*serving, *other_models])} "
            f"For task={task} it has: {', '.join(serving)}."
        )
    tasks = get_builder_tasks(name)
    if task not in tasks:
        served = ", ".join(sorted(tasks)) or "none of this program's tasks"
        raise ConfigError(
            f"model={name} cannot do task={task}; it does {served}. "
            f"Choose one of: {', '.join(serving)}."
        )


def find_weights_member(name: str, weights: str, key: str = "weights") -> WeightsEnum:
    """Return published weights of a builder.

    Args:
        name: The builder.
        weights: `DEFAULT`, a member's name (`COCO_V1`), or the name with its enum's before a dot.
        key: The setting that named the weights, for messages.

    Raises:
        ConfigError: The builder has no weights of this name.
    """
    members = get_model_weights(_FASTERRCNN_REFERENCE if name == FASTERRCNN else name)
    short = weights.rpartition(".")[2]
    if short == "DEFAULT" and len(members):
        return members.DEFAULT
    if short in members.__members__:
        return members[short]
    known = list(dict.fromkeys(["DEFAULT", *members.__members__]))
    raise ConfigError(
        f"{key}={weights}: {name} has no weights of this name.{suggest_nearest(short, known)} "
        f"Expected {', '.join(known)}, random, or a file (.safetensors, .pth)."
    )


def find_published_transform(full_name: str, task: str) -> Callable[[Tensor], Tensor]:
    """Return the preprocessing of published weights.

    Args:
        full_name: The weights' full name, such as `ResNet50_Weights.IMAGENET1K_V2`.
        task: A task that the weights' builder must be able to serve.

    Raises:
        ConfigError: There are no such weights for the task.
    """
    enums = [get_model_weights(name) for name in list_models() if task in get_builder_tasks(name)]
    known = {
        f"{enum.__name__}.{name}": member
        for enum in enums
        for name, member in enum.__members__.items()
    }
    if full_name not in known:
        raise ConfigError(
            f"preprocess={full_name}: torchvision has no weights of this name for task={task}."
            f"{suggest_nearest(full_name, known)} "
            f"Expected a full name such as {next(iter(known))}."
        )
    transform: Callable[[Tensor], Tensor] = known[full_name].transforms()
    return transform
