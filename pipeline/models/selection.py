"""Which network and which weights the settings ask for: a builder with weights, or a file that brings its own settings."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torchvision.models import WeightsEnum

from pipeline.config.settings import Settings
from pipeline.core.errors import ConfigError
from pipeline.core.package_files import find_resource
from pipeline.models.anchors import Anchors
from pipeline.models.checkpoints import Trained, read_trained, says_architecture
from pipeline.models.registry import EMBEDDED, PYRAMID, is_weights_file, tasks_of, weights_member
from pipeline.models.weights import WEIGHTS_FILES, existing

RANDOM = "random"


@dataclass(frozen=True)
class ModelSelection:
    """What a file brings goes before the settings' defaults; a setting that says otherwise is refused."""

    called: str  # as people call it, and a run's folder: a file by its name, without its folder
    architecture: str  # a torchvision builder, or `fasterrcnn` with a backbone
    backbone: str | None
    file: Path | None
    member: WeightsEnum | None  # neither a file nor a member: random weights
    trained: Trained | None  # what the file says of itself
    like: WeightsEnum  # whose preprocessing it has, and class names where nothing else gives them
    anchors: Anchors  # those that are not the builder's own
    model_args: Mapping[str, Any]
    channels: str
    needs_training: bool  # neither a file, nor published weights, nor random ones asked for


def select_model(settings: Settings) -> ModelSelection:
    """Reads the file's metadata, not its tensors. Raises ConfigError."""
    file, trained = _file(settings)
    architecture = trained.architecture if trained else settings.model
    if settings.task not in tasks_of(architecture):
        raise ConfigError(
            f"model={settings.model} does {', '.join(sorted(tasks_of(architecture)))}, not task={settings.task}."
        )
    anchors, backbone = Anchors.of(settings.anchors), settings.backbone
    if trained:
        _refuse_others(settings, trained)
        anchors, backbone = trained.anchors, trained.backbone
    _check_parts(architecture, backbone, anchors)
    needs_training = architecture == PYRAMID and not file and settings.weights == "DEFAULT"
    member = None
    if not file and not needs_training and settings.weights != RANDOM:
        member = weights_member(architecture, settings.weights)
    preprocess = trained.preprocess if trained else settings.preprocess
    return ModelSelection(
        called=Path(settings.model).stem if is_weights_file(settings.model) else settings.model,
        architecture=architecture,
        backbone=backbone,
        file=file,
        member=member,
        trained=trained,
        like=member or weights_member(architecture, preprocess, key="preprocess"),
        anchors=anchors,
        model_args={**(trained.model_args if trained else {}), **settings.model_args},
        channels=trained.channels if trained else settings.channels,
        needs_training=needs_training,
    )


def _file(settings: Settings) -> tuple[Path | None, Trained | None]:
    """The file of the weights, and what it says of them where it does."""
    if settings.model == EMBEDDED:
        if settings.weights != "DEFAULT":
            raise ConfigError(
                f"model={EMBEDDED} is one architecture with one file; leave weights= out."
            )
        path = find_resource("data") / f"{EMBEDDED}.safetensors"
        return path, read_trained(path)
    if is_weights_file(settings.model):
        for key, given in {"weights": settings.weights, "categories": settings.categories}.items():
            if given not in ("DEFAULT", None):
                raise ConfigError(
                    f"model={settings.model} brings its {key} with it; leave {key}= out."
                )
        if not Path(settings.model).expanduser().is_file():
            raise ConfigError(
                f"model={settings.model}: there is no such file. Expected a .safetensors file that `train` left."
            )
        path = existing(settings.model, WEIGHTS_FILES, key="model")
        return path, read_trained(path)
    if not is_weights_file(settings.weights):
        return None, None
    path = existing(settings.weights, WEIGHTS_FILES)
    trained = read_trained(path) if says_architecture(path) else None
    if trained and trained.architecture != settings.model:
        raise ConfigError(
            f"weights={path} are of {trained.architecture}, not {settings.model}. Say model={path}."
        )
    return path, trained


def _refuse_others(settings: Settings, trained: Trained) -> None:
    """Raise ConfigError for a setting that is not what the file was trained with."""
    others = {
        "backbone": (settings.backbone, trained.backbone),
        "channels": (None if settings.channels == "rgb" else settings.channels, trained.channels),
        "preprocess": (
            None if settings.preprocess == "DEFAULT" else settings.preprocess,
            trained.preprocess,
        ),
    }
    for key, (given, own) in others.items():
        if given is not None and given != own:
            raise ConfigError(
                f"{key}={given}: these weights were trained with {key}={own}; leave {key}= out."
            )
    anchors = Anchors.of(settings.anchors)
    if anchors and anchors != trained.anchors:
        own = trained.anchors.words() or "those of its builder"
        raise ConfigError(
            f"{anchors.words()}: these weights were trained with other anchors, {own}; leave anchors= out."
        )


def _check_parts(architecture: str, backbone: str | None, anchors: Anchors) -> None:
    """A backbone for `fasterrcnn` and no other, anchors for what has boxes."""
    if architecture == PYRAMID:
        if backbone is None:
            raise ConfigError(
                f"model={PYRAMID} needs a backbone: say backbone=mobilenet_v2, or another classifier."
            )
        from pipeline.models.backbones import feature_maps

        feature_maps(backbone)
    elif backbone is not None:
        raise ConfigError(
            f"backbone={backbone} is for model={PYRAMID}; {architecture} has its own. Leave backbone= out."
        )
    if anchors and "detect" not in tasks_of(architecture):
        raise ConfigError(
            f"anchors: {architecture} finds no boxes; leave anchors.sizes and anchors.ratios out."
        )
