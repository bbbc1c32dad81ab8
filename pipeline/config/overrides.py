"""Prepare command-line arguments for Hydra.

The list of variables from make is split, paths are quoted, and unknown settings are refused with
a suggestion.
"""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cache
from typing import Any

from pipeline.config.conf_files import (
    list_choices,
    list_kinds,
    list_setting_names,
    read_default_choices,
)
from pipeline.config.declare import build_defaults, list_declarations
from pipeline.config.instantiate import find_argument_kind
from pipeline.config.settings import Settings
from pipeline.config.word_grammar import Kind, split_sweep, to_hydra
from pipeline.core.errors import ConfigError, suggest_nearest
from pipeline.core.locations import expand_home

_HYDRA = "hydra"  # Hydra's own settings, such as hydra.launcher
_PLAIN_WORDS = re.compile(r"[\w.,\s-]*")  # values of a sweep without Hydra's functions and globs


def prepare_overrides(arguments: Sequence[str], sweep: bool) -> list[str]:
    """Turn arguments, e.g. `input=My Photos`, into overrides that Hydra understands.

    Args:
        arguments: `key=value` words. `--make WORDS` stands for the variables given to make.
        sweep: Whether commas separate the values of a sweep.

    Raises:
        ConfigError: A setting or a choice is unknown, or a word is not `key=value`.
    """
    words = add_task_of_model(split_arguments(arguments), read_task_of_file)
    chosen = _find_named_components(words, sweep)
    return [_prepare_override(word, sweep, chosen) for word in words]


def split_arguments(arguments: Sequence[str]) -> list[str]:
    """Replace `--make WORDS` by the words."""
    words = list(arguments)
    if "--make" in words:
        at = words.index("--make")
        words[at : at + 2] = split_make_variables(words[at + 1] if at + 1 < len(words) else "")
    return words


def split_make_variables(words: str) -> list[str]:
    r"""Split the value of make's MAKEOVERRIDES into words, in the order in which they were typed.

    make writes a backslash before blanks and backslashes in a value, doubles `$`, and reverses the
    order: `task=detect input=My\ Photos` becomes [`input=My Photos`, `task=detect`]. UPPERCASE
    variables belong to the Makefile and are left out.
    """
    found = re.findall(r"(?:\\.|[^\s\\])+", words.replace("$$", "$"), flags=re.DOTALL)
    plain = [re.sub(r"\\(.)", r"\1", word, flags=re.DOTALL) for word in found]
    typed = [re.sub(r"^([^=:+?!]+)(?:::?:?|\+|\?|!)?=", r"\1=", word) for word in plain]
    return [word for word in reversed(typed) if not word.partition("=")[0].isupper()]


def add_task_of_model(
    words: Sequence[str], find_tasks: Callable[[str], Collection[str]]
) -> list[str]:
    """Add `task=` if the words name a model but neither a task nor an experiment.

    Args:
        words: `key=value` words.
        find_tasks: Returns the tasks of the model that `model=` names, or no task if the model is
            unknown. The first of a list is added; of a set, the first in alphabetical order.
    """
    keys = {word.partition("=")[0].lstrip("+~") for word in words}
    models = [word.partition("=")[2] for word in words if word.startswith("model=")]
    if not models or keys & {"task", "experiment"}:
        return list(words)

    found = find_tasks(models[-1].strip("'\""))
    in_order = found if isinstance(found, Sequence) else sorted(found)
    tasks = [task for task in in_order if task in list_choices("task")]
    return [*words, f"task={tasks[0]}"] if tasks else list(words)


def read_task_of_file(model: str) -> list[str]:
    """Read from a weights file's metadata which task it was trained for.

    The list is empty if the model is not a weights file. It is also empty if the file cannot be
    read, because loading the file later gives a better error message.
    """
    from safetensors import SafetensorError, safe_open

    path = expand_home(model)
    if path.suffix.casefold() != ".safetensors" or not path.is_file():
        return []

    try:
        # framework="numpy" needs no torch; only the header is read
        with safe_open(path, framework="numpy") as file:
            task = (file.metadata() or {}).get("task")
    except (SafetensorError, OSError):
        return []
    return [task] if task else []


def _find_named_components(words: Sequence[str], sweep: bool) -> dict[str, list[str]]:
    """Find the components that words like `task=detect` name, by kind. A sweep may name several.

    Kinds whose components are chosen as a list, e.g. `sink`, are left out.
    """
    named: dict[str, list[str]] = {}
    for kind, default in read_default_choices().items():
        if isinstance(default, list):
            continue

        values = [word.partition("=")[2] for word in words if word.startswith(f"{kind}=")]
        names = values[-1].split(",") if values and sweep else values[-1:]
        if names and set(names) <= set(list_choices(kind)):
            named[kind] = names
    return named


def _prepare_override(word: str, sweep: bool, chosen: Mapping[str, list[str]]) -> str:
    if word.startswith("-"):
        return word

    if "\0" in word:  # no path, and no option of a library, can have one
        raise ConfigError(f"{word!r}: expected a text without NUL characters.")
    key, equals, value = word.partition("=")
    name, *below = re.split(r"[./@]", key.lstrip("+~"))
    if not equals and not key.startswith("~"):
        raise ConfigError(f"{word!r}: expected key=value, for example task=detect or input=photos.")

    _check_key(name, ".".join(below))
    _check_component_key(name, ".".join(below), chosen.get(name, []))
    if key == name and not sweep:
        _check_choice(name, value)
    if key == name and sweep and _PLAIN_WORDS.fullmatch(value):
        for choice in value.split(","):
            _check_choice(name, choice.strip())

    kind = _find_kind(key.lstrip("+"), chosen.get(name, []))
    if equals and kind is not Kind.VALUE:
        values = split_sweep(value, kind) if sweep else [value]
        return f"{key}={','.join(to_hydra(key, item, kind, _references()) for item in values)}"
    if key in _nested_keys() and value.startswith("{"):
        # With `++` an unknown key in the mapping reaches our check, whose message is better than
        # Hydra's.
        return f"++{word}"
    return word


@cache
def _defaults() -> dict[str, Any]:
    return build_defaults(Settings)


@cache
def _references() -> frozenset[str]:
    """Return the settings and components that `${...}` may refer to."""
    return frozenset({*_defaults(), *list_kinds()})


@cache
def _declared_kinds() -> dict[str, Kind]:
    return {item.name: item.kind for item in list_declarations(Settings)}


def _find_kind(key: str, chosen: Sequence[str]) -> Kind:
    """Return how the text of a setting is read.

    Args:
        key: The setting. `source.root` is a setting of a component, whose class declares its type.
        chosen: The components that the command line names. If it names none, the first component
            that reads this setting as text decides.
    """
    if key in _declared_kinds() or "." not in key:
        return _declared_kinds().get(key, Kind.VALUE)

    component_kind, _, name = key.partition(".")
    owners = [
        component
        for component in chosen or list_choices(component_kind)
        if name in list_setting_names(component_kind, component)
    ]
    kinds = (find_argument_kind(component_kind, owner, name) for owner in owners)
    return next((kind for kind in kinds if kind is not Kind.VALUE), Kind.VALUE)


def _nested_keys() -> dict[str, list[str]]:
    """Return the names of nested settings by the setting that contains them, e.g. `tiles`."""
    return {key: list(value) for key, value in _defaults().items() if isinstance(value, dict)}


def _check_key(name: str, below: str) -> None:
    """Refuse an unknown setting. `below` is what follows the first dot of the key."""
    known = {*_defaults(), *list_kinds(), _HYDRA}
    if name not in known:
        raise ConfigError(
            f"unknown setting {name!r}.{suggest_nearest(name, known)} "
            f"Known: {', '.join(sorted(known))}."
        )

    nested = _nested_keys().get(name, [])
    if below and nested and below not in nested:
        raise ConfigError(
            f"unknown setting '{name}.{below}'.{suggest_nearest(below, nested)} "
            f"{name} has: {', '.join(nested)}."
        )


def _check_component_key(kind: str, name: str, chosen: Sequence[str]) -> None:
    """Refuse a setting that no component of the kind has, e.g. `source.fsp`.

    Args:
        kind: The first part of the key.
        name: The rest of the key.
        chosen: The components that the command line names. If it names none, the settings of all
            components of the kind are accepted, because the configuration may choose any of them.
    """
    owners: dict[str, list[str]] = {}
    for component in chosen or list_choices(kind):
        for setting in list_setting_names(kind, component):
            owners.setdefault(f"{kind}.{setting}", []).append(component)

    key = f"{kind}.{name}"
    if not name or key in owners or not list_setting_names(kind):
        return

    problem = f"unknown setting {key!r}.{suggest_nearest(key, owners)}"
    if not owners:
        raise ConfigError(f"{problem} {kind}={','.join(chosen)} has no settings of its own.")
    known = ", ".join(f"{item} ({', '.join(owners[item])})" for item in sorted(owners))
    raise ConfigError(f"{problem} Known: {known}.")


def _check_choice(kind: str, choice: str) -> None:
    """Refuse a component that does not exist. A list is left to Hydra."""
    choices = list_choices(kind)
    if choices and not choice.startswith("[") and choice not in choices:
        raise ConfigError(
            f"{kind}={choice}: expected {', '.join(choices)}.{suggest_nearest(choice, choices)}"
        )
