"""The one function that turns a configuration node into a part. It builds classes of this project and nothing else."""

import inspect
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from omegaconf import OmegaConf

from pipeline.core.errors import ConfigError, suggest_nearest
from pipeline.core.package_files import find_resource


def instantiate(node: Mapping[str, Any], **extra: Any) -> Any:
    """Construct the class that `node["_target_"]` names, with the node's other keys and `extra` as arguments.

    The key `presets` is for the settings and is not an argument.
    Raises ConfigError for a target outside `pipeline.`, one that is not a class defined there, or wrong arguments.
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
    """Return the class that `node["_target_"]` names, without building it. Raises ConfigError as `instantiate` does."""
    return _resolve(str(node.get("_target_", "")))


def find_class(kind: str, name: str) -> type:
    """Return the class of a shipped component, without building it: `find_class("source", "tar")` is `Tar`.

    The target is read from `conf/<kind>/<name>.yaml`, never from a run folder.

    Raises:
        ConfigError: there is no such component. Its name may come from another program's or version's run.
    """
    file = find_resource("conf") / kind / f"{name}.yaml"
    known = sorted(path.stem for path in file.parent.glob("*.yaml"))
    if name not in known:
        raise ConfigError(
            f"{kind}={name}: expected {', '.join(known)}.{suggest_nearest(name, known)}"
        )
    node = OmegaConf.load(file)
    # a sink's node is nested under its own name, that of a file which also sets other groups under its kind
    places = ("_target_", f"{kind}._target_", f"{name}._target_")
    return _resolve(
        str(next(filter(None, (OmegaConf.select(node, place) for place in places)), ""))
    )


def _resolve(target: str) -> type:
    module_name, _, name = target.rpartition(".")
    if not module_name.startswith("pipeline."):
        raise ConfigError(
            f"Parts are built only from classes under 'pipeline.'; the configuration names {target!r}."
        )
    try:
        found = getattr(import_module(module_name), name, None)
    except ModuleNotFoundError as error:
        raise ConfigError(f"The configuration names {target!r}: {error}.") from None
    # a class that a module merely imported (pipeline.x.Popen) is not one of ours
    if not inspect.isclass(found) or not found.__module__.startswith("pipeline."):
        raise ConfigError(
            f"The configuration names {target!r}, which is not a class of this project."
        )
    return found
