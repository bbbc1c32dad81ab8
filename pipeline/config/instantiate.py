"""Build components from configuration nodes. Only classes of this project are built."""

import inspect
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from omegaconf import OmegaConf

from pipeline.config.conf_files import list_choices
from pipeline.config.word_grammar import Kind
from pipeline.core.errors import ConfigError, suggest_nearest
from pipeline.core.package_files import find_resource


def instantiate(node: Mapping[str, Any], **extra: Any) -> Any:
    """Build the class that `node["_target_"]` names.

    Args:
        node: `_target_` and the arguments. Its key `presets` belongs to the settings and is not
            passed to the class.
        extra: More arguments.

    Raises:
        ConfigError: The target lies outside `pipeline.`, is not a class defined there, or does not
            take these arguments.
    """
    target = str(node.get("_target_", ""))
    cls = resolve_class(node)
    arguments = {k: v for k, v in node.items() if k not in ("_target_", "presets")} | extra

    try:
        inspect.signature(cls).bind(**arguments)
    except TypeError as error:
        raise ConfigError(
            f"{target} does not take these settings: {error}. It was given {sorted(arguments)}."
        ) from None
    return cls(**arguments)


def resolve_class(node: Mapping[str, Any]) -> type:
    """Return the class that `node["_target_"]` names without building it.

    Raises:
        ConfigError: The target is not a class of this project.
    """
    return _import_class(str(node.get("_target_", "")))


def find_class(kind: str, name: str) -> type:
    """Return the class of a shipped component without building it.

    `find_class("source", "tar")` is the class that conf/source/tar.yaml names.

    Raises:
        ConfigError: There is no such component. The name may come from a run of another version or
            program.
    """
    known = list_choices(kind)
    if name not in known:
        raise ConfigError(
            f"{kind}={name}: expected {', '.join(known)}.{suggest_nearest(name, known)}"
        )

    node = OmegaConf.load(find_resource("conf") / kind / f"{name}.yaml")
    # The node of a sink is below the key of its name. In a file for `_global_` the node is below
    # the key of its kind.
    paths = ("_target_", f"{kind}._target_", f"{name}._target_")
    targets = [OmegaConf.select(node, path) for path in paths]
    return _import_class(str(next(filter(None, targets), "")))


def find_argument_kind(kind: str, component: str, name: str) -> Kind:
    """Return how the text of a component's setting is read, from the type that its class declares.

    `str` is one text, a sequence of `str` is a list of texts; each may also be None.

    Args:
        kind: The kind of the component, e.g. `source`.
        component: Its name.
        name: The setting without the kind. That of a sink is below the sink's own name.
    """
    parameters = inspect.signature(find_class(kind, component)).parameters
    argument = parameters.get(name.rpartition(".")[2])
    declared = inspect.Parameter.empty if argument is None else argument.annotation
    text = declared.__name__ if isinstance(declared, type) else str(declared)
    types = {part.strip().rpartition(".")[2] for part in text.split("|")} - {"None"}

    if types == {"str"}:
        return Kind.TEXT
    return Kind.TEXTS if "Sequence[str]" in types else Kind.VALUE


def _import_class(target: str) -> type:
    module_name, _, name = target.rpartition(".")
    if not module_name.startswith("pipeline."):
        raise ConfigError(
            "Components are built only from classes under 'pipeline.'; "
            f"the configuration names {target!r}."
        )

    try:
        found = getattr(import_module(module_name), name, None)
    except ModuleNotFoundError as error:
        raise ConfigError(f"The configuration names {target!r}: {error}.") from None

    # A class that the module only imports, e.g. subprocess.Popen, does not belong to this project.
    if not inspect.isclass(found) or not found.__module__.startswith("pipeline."):
        raise ConfigError(
            f"The configuration names {target!r}, which is not a class of this project."
        )
    return found
