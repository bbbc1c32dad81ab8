"""The one function that turns a configuration node into a part. It builds classes of this project and nothing else."""

import inspect
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from pipeline.core.errors import ConfigError


def build(node: Mapping[str, Any], **extra: Any) -> Any:
    """Construct the class that `node["_target_"]` names, with the node's other keys and `extra` as arguments.

    The key `presets` is for the settings and is not an argument.
    Raises ConfigError for a target outside `pipeline.`, one that is not a class defined there, or wrong arguments.
    """
    target = str(node.get("_target_", ""))
    cls = _resolve(target)
    arguments = {k: v for k, v in node.items() if k not in ("_target_", "presets")} | extra
    try:
        inspect.signature(cls).bind(**arguments)
    except TypeError as error:
        raise ConfigError(f"{target} does not take these settings: {error}. It was given {sorted(arguments)}.") from None
    return cls(**arguments)


def _resolve(target: str) -> type:
    module_name, _, name = target.rpartition(".")
    if not module_name.startswith("pipeline."):
        raise ConfigError(f"Parts are built only from classes under 'pipeline.'; the configuration names {target!r}.")
    try:
        found = getattr(import_module(module_name), name, None)
    except ModuleNotFoundError as error:
        raise ConfigError(f"The configuration names {target!r}: {error}.") from None
    # a class that a module merely imported (pipeline.x.Popen) is not one of ours
    if not inspect.isclass(found) or not found.__module__.startswith("pipeline."):
        raise ConfigError(f"The configuration names {target!r}, which is not a class of this project.")
    return found
