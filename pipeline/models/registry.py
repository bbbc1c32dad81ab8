"""The catalogue: torchvision's builders by name, what each can do, and the model that the settings ask for."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from torch import Tensor
from torchvision.models import WeightsEnum, get_model_builder, get_model_weights, list_models

from pipeline.config.instantiate import instantiate
from pipeline.config.settings import Settings
from pipeline.config.task_classes import list_served_tasks
from pipeline.core.errors import ConfigError, suggest_nearest
from pipeline.core.package_files import find_resource
from pipeline.core.protocols import Format
from pipeline.models.weights import WEIGHTS_FILES

_OUTPUTS_OF_MODULE = {
    "mask_rcnn": frozenset({"boxes", "masks"}),
    "keypoint_rcnn": frozenset({"boxes", "keypoints"}),
}
_CLIPS = "video"  # the family whose inputs are clips
_OUTPUTS_OF_FAMILY = {
    "": frozenset({"logits", "embedding"}),
    "detection": frozenset({"boxes"}),
    "segmentation": frozenset({"probabilities"}),
    _CLIPS: frozenset({"logits"}),
    "quantization": frozenset({"logits", "embedding"}),
}
BUNDLED_MODEL = "codes"  # the detector in data/, for the samples and for codes in photographs
FASTERRCNN = "fasterrcnn"  # Faster R-CNN on a classifier of the user's choice: `backbone`
_LIKE_PYRAMID = (
    "fasterrcnn_resnet50_fpn"  # whose preprocessing and classes it has where nothing else is said
)


def find_format(settings: Settings) -> Format:
    """The part that knows how the chosen model is stored. `model` names a format (`torchscript`), or else a builder or a
    file that training left."""
    conf = find_resource("conf") / "format"
    formats = sorted(path.stem for path in conf.glob("*.yaml") if path.stem != "builder")
    if settings.model in formats:
        chosen = settings.model
    else:
        chosen = "builder"
        if settings.model != BUNDLED_MODEL and not is_weights_file(settings.model):
            check_builder(settings.model, settings.task, also=[BUNDLED_MODEL, *formats])
    node: Any = OmegaConf.to_container(OmegaConf.load(conf / f"{chosen}.yaml"))
    if chosen != "builder":  # a builder gets model_args itself, further down
        unknown = set(settings.model_args) - set(node)
        if unknown:
            raise ConfigError(
                f"model_args: {chosen} takes {sorted(set(node) - {'_target_'})}, not {sorted(unknown)}."
            )
        node |= dict(settings.model_args)
        if settings.backbone or any(vars(settings.anchors).values()):
            raise ConfigError(
                f"model={chosen} is a program as it is: leave backbone= and anchors= out."
            )
    return instantiate(node, settings=settings)


def check_builder(name: str, task: str, also: list[str]) -> None:
    """Raise ConfigError unless there is a builder of this name that can serve the task."""
    serving = [n for n in list_builder_names() if task in get_builder_tasks(n)]
    if name not in list_builder_names():
        raise ConfigError(
            f"model={name}: torchvision has no builder of this name.{suggest_nearest(name, [*serving, *also])} "
            f"For task={task} it has: {', '.join(serving)}."
        )
    if task not in get_builder_tasks(name):
        can = ", ".join(sorted(get_builder_tasks(name))) or "none of this program's tasks"
        raise ConfigError(
            f"model={name} cannot do task={task}; it does {can}. Choose one of: {', '.join(serving)}."
        )


def list_builder_names() -> list[str]:
    """torchvision's, and `fasterrcnn`, which takes a backbone."""
    return [*list_models(), FASTERRCNN]


def is_weights_file(given: str) -> bool:
    """Whether a model or weights are given as a file, which its ending tells."""
    return Path(given).suffix.casefold() in WEIGHTS_FILES


@cache
def get_builder_tasks(name: str) -> frozenset[str]:
    """Return the names of the tasks that a builder can serve."""
    return frozenset(list_served_tasks(get_builder_outputs(name), builder_takes_clips(name)))


def get_builder_outputs(name: str) -> frozenset[str]:
    """Return what a builder's network returns for each input; empty where no task can use it."""
    family, module = _find_module(name)
    return _OUTPUTS_OF_MODULE.get(module) or _OUTPUTS_OF_FAMILY.get(family, frozenset())


def builder_takes_clips(name: str) -> bool:
    """Tell whether a builder's inputs are clips of videos."""
    return _find_module(name)[0] == _CLIPS


def _find_module(name: str) -> tuple[str, str]:
    """Return family and module of a builder in torchvision: ("detection", "mask_rcnn")."""
    if name == FASTERRCNN:
        return "detection", "faster_rcnn"
    path = get_model_builder(name).__module__.removeprefix("torchvision.models.")
    family, _, module = path.rpartition(".")
    return family, module


def find_weights_member(name: str, member: str, key: str = "weights") -> WeightsEnum:
    """One of a builder's published weights, `DEFAULT` or by name (the enum's own name before a dot is allowed)."""
    members = get_model_weights(_LIKE_PYRAMID if name == FASTERRCNN else name)
    short = member.rpartition(".")[2]
    if short == "DEFAULT" and len(members):
        return members.DEFAULT
    if short in members.__members__:
        return members[short]
    known = list(dict.fromkeys(["DEFAULT", *members.__members__]))
    raise ConfigError(
        f"{key}={member}: {name} has no weights of this name.{suggest_nearest(short, known)} "
        f"Expected {', '.join(known)}, random, or a file (.safetensors, .pth)."
    )


def find_published_transform(given: str, task: str) -> Callable[[Tensor], Tensor]:
    """The preprocessing of a torchvision weights member by its full name (`ResNet50_Weights.IMAGENET1K_V2`), which must
    belong to a builder that serves the task."""
    enums = [get_model_weights(name) for name in list_models() if task in get_builder_tasks(name)]
    known = {
        f"{enum.__name__}.{name}": member
        for enum in enums
        for name, member in enum.__members__.items()
    }
    if given not in known:
        raise ConfigError(
            f"preprocess={given}: torchvision has no weights of this name for task={task}.{suggest_nearest(given, known)} "
            f"Expected a full name such as {next(iter(known))}."
        )
    transform: Callable[[Tensor], Tensor] = known[given].transforms()
    return transform


def is_quantized(name: str) -> bool:
    """Whether a builder makes an int8 network (`quantized_resnet18`)."""
    return name != FASTERRCNN and get_model_builder(name).__module__.startswith(
        "torchvision.models.quantization."
    )
