"""Find the format of the model that the settings name."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from omegaconf import OmegaConf

from pipeline.config.instantiate import find_class, instantiate
from pipeline.config.settings import Settings
from pipeline.core.errors import ConfigError
from pipeline.core.package_files import find_resource
from pipeline.core.protocols import Format
from pipeline.models.programs.choose_head import list_head_settings
from pipeline.models.torchvision_builders import BUNDLED_MODEL, check_builder
from pipeline.models.weights import is_weights_file

_BUILDER_FORMAT = "builder"  # for every model that names no format


def find_format(settings: Settings) -> Format:
    """Return the format of the model.

    `model` may be the name of a format, whose configuration is `conf/format/<name>.yaml`, or a file
    that a format recognises. It may also be a torchvision builder, a file written by training, or
    the bundled model. The format of these three is `builder`.

    Raises:
        ConfigError: There is no such model, or the settings do not fit it.
    """
    name = _choose_format(settings)
    node = _load_node(name)
    if name != _BUILDER_FORMAT:  # a builder itself takes `model_args`, `backbone` and `anchors`
        node |= _check_format_arguments(name, node, settings)
    return instantiate(node, settings=settings)


def _choose_format(settings: Settings) -> str:
    """Return the name of the format, after checking that the model exists."""
    formats = _list_formats()
    if settings.model in formats:
        return settings.model
    if recognised := _recognise(settings.model):
        return recognised
    if settings.model != BUNDLED_MODEL and not is_weights_file(settings.model):
        check_builder(settings.model, settings.task, other_models=[BUNDLED_MODEL, *formats])
    return _BUILDER_FORMAT


def find_file_tasks(model: str) -> Sequence[str]:
    """Return the tasks of a model file, the one it was made for first; none if it does not tell.

    Raises:
        ConfigError: The file contradicts itself, or needs a library that is not installed.
    """
    name = _recognise(model)
    return _find_class(name).list_file_tasks(model) if name else []


def _recognise(model: str) -> str | None:
    """Return the first format that recognises the value of `model`; None: no format does."""
    return next((name for name in _list_formats() if _find_class(name).recognises(model)), None)


def _find_class(name: str) -> type[Format]:
    return cast("type[Format]", find_class("format", name))


def _list_formats() -> list[str]:
    """Return the formats that `model` can name."""
    names = (path.stem for path in _get_conf_folder().glob("*.yaml"))
    return sorted(name for name in names if name != _BUILDER_FORMAT)


def _load_node(name: str) -> dict[str, Any]:
    node: Any = OmegaConf.to_container(OmegaConf.load(_get_conf_folder() / f"{name}.yaml"))
    return node


def _get_conf_folder() -> Path:
    return find_resource("conf") / "format"


def _check_format_arguments(
    name: str, node: Mapping[str, Any], settings: Settings
) -> dict[str, Any]:
    """Return `model_args`, which set the format's own options."""
    unknown = set(settings.model_args) - set(node) - list_head_settings()
    if unknown:
        raise ConfigError(
            f"model_args: {name} takes {sorted(set(node) - {'_target_'})}, not {sorted(unknown)}."
        )
    if settings.backbone or any(vars(settings.anchors).values()):
        raise ConfigError(f"model={name} is a program as it is: leave backbone= and anchors= out.")
    return {key: value for key, value in settings.model_args.items() if key in node}
