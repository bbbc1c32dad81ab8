"""Choose the network and the weights that the settings ask for, from a builder or a file."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torchvision.models import WeightsEnum

from pipeline.config.settings import Settings
from pipeline.core.errors import ConfigError
from pipeline.core.locations import expand_home
from pipeline.core.package_files import find_resource
from pipeline.models.anchors import Anchors
from pipeline.models.checkpoints import (
    CheckpointMetadata,
    has_known_architecture,
    read_checkpoint_metadata,
)
from pipeline.models.feature_maps import find_feature_maps
from pipeline.models.pickle_origin import refuse_pickled_code
from pipeline.models.torchvision_builders import (
    BUNDLED_MODEL,
    FASTERRCNN,
    find_weights_member,
    get_builder_outputs,
    get_builder_tasks,
)
from pipeline.models.weights import WEIGHTS_FILES, is_weights_file, resolve_file

RANDOM = "random"  # the value of `weights` for a network with random weights


@dataclass(frozen=True)
class ModelSelection:
    """A network and its weights.

    The metadata of a file replaces the defaults of the settings. A setting that contradicts the
    metadata is an error.
    """

    display_name: str  # also part of the run folder's name; of a file its name without the folder
    architecture: str  # a torchvision builder, or `fasterrcnn` with a backbone
    backbone: str | None
    file: Path | None
    member: WeightsEnum | None  # published weights; without `file` and `member`: random weights
    checkpoint: CheckpointMetadata | None  # what the file says about itself
    reference_weights: WeightsEnum  # define the preprocessing, and class names if nothing else does
    anchors: Anchors  # where they differ from the builder's
    model_args: Mapping[str, Any]
    channels: str
    needs_training: bool  # there are no published weights, and the settings name no others


def select_model(settings: Settings) -> ModelSelection:
    """Choose the network and the weights. If they are in a file, only its metadata is read.

    Raises:
        ConfigError: The settings contradict each other or the file.
    """
    file, checkpoint = _find_weights_file(settings)
    architecture = checkpoint.architecture if checkpoint else settings.model
    tasks = get_builder_tasks(architecture)
    if settings.task not in tasks:
        raise ConfigError(
            f"model={settings.model} does {', '.join(sorted(tasks))}, not task={settings.task}."
        )

    anchors, backbone = Anchors.from_mapping(vars(settings.anchors)), settings.backbone
    if checkpoint:
        _check_settings_of_file(settings, checkpoint)
        anchors, backbone = checkpoint.anchors, checkpoint.backbone
    _check_backbone_and_anchors(architecture, backbone, anchors)

    needs_training = architecture == FASTERRCNN and not file and settings.weights == "DEFAULT"
    member = None
    if not file and not needs_training and settings.weights != RANDOM:
        member = find_weights_member(architecture, settings.weights)
    preprocess = checkpoint.preprocess if checkpoint else settings.preprocess
    is_file = is_weights_file(settings.model)
    return ModelSelection(
        display_name=Path(settings.model).stem if is_file else settings.model,
        architecture=architecture,
        backbone=backbone,
        file=file,
        member=member,
        checkpoint=checkpoint,
        reference_weights=member or find_weights_member(architecture, preprocess, key="preprocess"),
        anchors=anchors,
        model_args={**(checkpoint.model_args if checkpoint else {}), **settings.model_args},
        channels=checkpoint.channels if checkpoint else settings.channels,
        needs_training=needs_training,
    )


def _find_weights_file(settings: Settings) -> tuple[Path | None, CheckpointMetadata | None]:
    """Return the file with the weights, and its metadata if it names an architecture."""
    if settings.model == BUNDLED_MODEL:
        if settings.weights != "DEFAULT":
            raise ConfigError(
                f"model={BUNDLED_MODEL} is one architecture with one file; leave weights= out."
            )
        path = find_resource("data") / f"{BUNDLED_MODEL}.safetensors"
        return path, read_checkpoint_metadata(path)
    if is_weights_file(settings.model):
        return _find_model_file(settings)
    if not is_weights_file(settings.weights):
        return None, None

    path = resolve_file(settings.weights, WEIGHTS_FILES)
    checkpoint = read_checkpoint_metadata(path) if has_known_architecture(path) else None
    if checkpoint and checkpoint.architecture != settings.model:
        raise ConfigError(
            f"weights={path} are of {checkpoint.architecture}, not {settings.model}. "
            f"Say model={path}."
        )
    return path, checkpoint


def _find_model_file(settings: Settings) -> tuple[Path, CheckpointMetadata]:
    """Return the file that `model` names, and its metadata."""
    for key, given in {"weights": settings.weights, "categories": settings.categories}.items():
        if given not in ("DEFAULT", None):
            raise ConfigError(f"model={settings.model} brings its {key} with it; leave {key}= out.")
    if not expand_home(settings.model).is_file():
        raise ConfigError(
            f"model={settings.model}: there is no such file. "
            "Expected a .safetensors file that `train` left."
        )
    path = resolve_file(settings.model, WEIGHTS_FILES, key="model")
    refuse_pickled_code(path)
    return path, read_checkpoint_metadata(path)


def _check_settings_of_file(settings: Settings, checkpoint: CheckpointMetadata) -> None:
    """Raise ConfigError for a setting that differs from what the file was trained with."""
    channels = None if settings.channels == "rgb" else settings.channels
    preprocess = None if settings.preprocess == "DEFAULT" else settings.preprocess
    values = {  # setting -> (its value, None where it is the default; the file's value)
        "backbone": (settings.backbone, checkpoint.backbone),
        "channels": (channels, checkpoint.channels),
        "preprocess": (preprocess, checkpoint.preprocess),
    }
    for key, (given, own) in values.items():
        if given is not None and given != own:
            raise ConfigError(
                f"{key}={given}: these weights were trained with {key}={own}; leave {key}= out."
            )

    anchors = Anchors.from_mapping(vars(settings.anchors))
    if anchors and anchors != checkpoint.anchors:
        trained_with = checkpoint.anchors.to_overrides() or "those of its builder"
        raise ConfigError(
            f"{anchors.to_overrides()}: these weights were trained with other anchors, "
            f"{trained_with}; leave anchors= out."
        )


def _check_backbone_and_anchors(architecture: str, backbone: str | None, anchors: Anchors) -> None:
    """Check that only `fasterrcnn` has a backbone, and only detectors have anchors."""
    if architecture == FASTERRCNN:
        if backbone is None:
            raise ConfigError(
                f"model={FASTERRCNN} needs a backbone: say backbone=mobilenet_v2, or another "
                "classifier."
            )
        find_feature_maps(backbone)
    elif backbone is not None:
        raise ConfigError(
            f"backbone={backbone} is for model={FASTERRCNN}; {architecture} has its own. "
            "Leave backbone= out."
        )
    if anchors and "boxes" not in get_builder_outputs(architecture):
        raise ConfigError(
            f"anchors: {architecture} finds no boxes; leave anchors.sizes and anchors.ratios out."
        )
