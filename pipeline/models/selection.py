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
from pipeline.models.checkpoints import (
    CheckpointMetadata,
    has_known_architecture,
    read_checkpoint_metadata,
)
from pipeline.models.registry import (
    BUNDLED_MODEL,
    FASTERRCNN,
    find_weights_member,
    get_builder_outputs,
    get_builder_tasks,
    is_weights_file,
)
from pipeline.models.weights import WEIGHTS_FILES, resolve_file

RANDOM = "random"


@dataclass(frozen=True)
class ModelSelection:
    """What a file brings goes before the settings' defaults; a setting that says otherwise is refused."""

    display_name: (
        str  # as people call it, and a run's folder: a file by its name, without its folder
    )
    architecture: str  # a torchvision builder, or `fasterrcnn` with a backbone
    backbone: str | None
    file: Path | None
    member: WeightsEnum | None  # neither a file nor a member: random weights
    checkpoint: CheckpointMetadata | None  # what the file says of itself
    reference_weights: (
        WeightsEnum  # whose preprocessing it has, and class names where nothing else gives them
    )
    anchors: Anchors  # those that are not the builder's own
    model_args: Mapping[str, Any]
    channels: str
    needs_training: bool  # neither a file, nor published weights, nor random ones asked for


def select_model(settings: Settings) -> ModelSelection:
    """Reads the file's metadata, not its tensors. Raises ConfigError."""
    file, trained = _file(settings)
    architecture = trained.architecture if trained else settings.model
    if settings.task not in get_builder_tasks(architecture):
        raise ConfigError(
            f"model={settings.model} does {', '.join(sorted(get_builder_tasks(architecture)))}, not task={settings.task}."
        )
    anchors, backbone = Anchors.from_mapping(vars(settings.anchors)), settings.backbone
    if trained:
        _refuse_others(settings, trained)
        anchors, backbone = trained.anchors, trained.backbone
    _check_parts(architecture, backbone, anchors)
    needs_training = architecture == FASTERRCNN and not file and settings.weights == "DEFAULT"
    member = None
    if not file and not needs_training and settings.weights != RANDOM:
        member = find_weights_member(architecture, settings.weights)
    preprocess = trained.preprocess if trained else settings.preprocess
    return ModelSelection(
        display_name=Path(settings.model).stem
        if is_weights_file(settings.model)
        else settings.model,
        architecture=architecture,
        backbone=backbone,
        file=file,
        member=member,
        checkpoint=trained,
        reference_weights=member or find_weights_member(architecture, preprocess, key="preprocess"),
        anchors=anchors,
        model_args={**(trained.model_args if trained else {}), **settings.model_args},
        channels=trained.channels if trained else settings.channels,
        needs_training=needs_training,
    )


def _file(settings: Settings) -> tuple[Path | None, CheckpointMetadata | None]:
    """The file of the weights, and what it says of them where it does."""
    if settings.model == BUNDLED_MODEL:
        if settings.weights != "DEFAULT":
            raise ConfigError(
                f"model={BUNDLED_MODEL} is one architecture with one file; leave weights= out."
            )
        path = find_resource("data") / f"{BUNDLED_MODEL}.safetensors"
        return path, read_checkpoint_metadata(path)
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
        path = resolve_file(settings.model, WEIGHTS_FILES, key="model")
        return path, read_checkpoint_metadata(path)
    if not is_weights_file(settings.weights):
        return None, None
    path = resolve_file(settings.weights, WEIGHTS_FILES)
    trained = read_checkpoint_metadata(path) if has_known_architecture(path) else None
    if trained and trained.architecture != settings.model:
        raise ConfigError(
            f"weights={path} are of {trained.architecture}, not {settings.model}. Say model={path}."
        )
    return path, trained


def _refuse_others(settings: Settings, trained: CheckpointMetadata) -> None:
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
    anchors = Anchors.from_mapping(vars(settings.anchors))
    if anchors and anchors != trained.anchors:
        own = trained.anchors.to_overrides() or "those of its builder"
        raise ConfigError(
            f"{anchors.to_overrides()}: these weights were trained with other anchors, {own}; leave anchors= out."
        )


def _check_parts(architecture: str, backbone: str | None, anchors: Anchors) -> None:
    """A backbone for `fasterrcnn` and no other, anchors for what has boxes."""
    if architecture == FASTERRCNN:
        if backbone is None:
            raise ConfigError(
                f"model={FASTERRCNN} needs a backbone: say backbone=mobilenet_v2, or another classifier."
            )
        from pipeline.models.backbones import find_feature_maps

        find_feature_maps(backbone)
    elif backbone is not None:
        raise ConfigError(
            f"backbone={backbone} is for model={FASTERRCNN}; {architecture} has its own. Leave backbone= out."
        )
    if anchors and "boxes" not in get_builder_outputs(architecture):
        raise ConfigError(
            f"anchors: {architecture} finds no boxes; leave anchors.sizes and anchors.ratios out."
        )
