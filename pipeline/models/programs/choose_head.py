"""Choose the head of a program: what the program computes."""

from typing import Any, cast

from omegaconf import OmegaConf

from pipeline.config.conf_files import list_choices
from pipeline.config.instantiate import find_class, instantiate
from pipeline.config.settings import Settings
from pipeline.core.errors import ConfigError, PipelineError
from pipeline.core.package_files import find_resource
from pipeline.models.programs.head import Head, ProgramFacts

_DEFAULT = "torchvision"  # for a program that no other head recognises


def choose_head(facts: ProgramFacts, settings: Settings) -> Head:
    """Build the head of a program. `model_args` replace values of its configuration file.

    Raises:
        ConfigError: The head does not serve the task, or a setting does not fit.
    """
    name = _find_name(facts)
    node = read_node(name)
    head_settings = {
        key: value for key, value in settings.model_args.items() if key in list_head_settings()
    }
    if unknown := set(head_settings) - set(node):
        known = sorted(set(node) - {"_target_"})
        raise ConfigError(
            f"model_args: {facts.file.name} takes {known or 'no settings'}, not {sorted(unknown)}."
        )
    tasks = find_head_class(facts).list_tasks(facts)
    if settings.task not in tasks:
        known_tasks = " or ".join(filter(None, [", ".join(tasks[:-1]), tasks[-1]]))
        raise ConfigError(f"model={settings.model} can do {known_tasks}, not task={settings.task}.")
    head: Head = instantiate(node | head_settings, facts=facts, settings=settings)
    return head


def find_head_class(facts: ProgramFacts) -> type[Head]:
    """Return the class of a program's head without building it."""
    return _find_class(_find_name(facts))


def read_node(name: str) -> dict[str, Any]:
    """Read a head's configuration file: its class and its settings."""
    node: Any = OmegaConf.to_container(
        OmegaConf.load(find_resource("conf") / "head" / f"{name}.yaml")
    )
    return node


def list_head_settings() -> set[str]:
    """Return the names of the settings of all heads, which `model_args` may set."""
    return {key for name in list_choices("head") for key in read_node(name)} - {"_target_"}


def _find_name(facts: ProgramFacts) -> str:
    names = [name for name in list_choices("head") if _find_class(name).explain_match(facts)]
    if len(names) > 1:
        raise PipelineError(f"{facts.file} is recognised by several heads: {', '.join(names)}.")
    return names[0] if names else _DEFAULT


def _find_class(name: str) -> type[Head]:
    return cast("type[Head]", find_class("head", name))
