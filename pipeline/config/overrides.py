"""The command line on its way to Hydra: make's list of variables, paths that need no quoting, typos with an answer."""

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from pipeline.core.errors import ConfigError, suggest_nearest
from pipeline.core.package_files import find_resource

_TEXT_KEYS = frozenset(
    {"input", "output", "weights", "categories", "model", "device", "backbone"}
) | frozenset({"train.data", "train.images", "train.backbone_weights"})
_HYDRA_KEYS = frozenset({"hydra"})


def prepare_overrides(arguments: Sequence[str], sweep: bool) -> list[str]:
    """Arguments of `run` or `sweep` -> overrides that Hydra understands. Raises ConfigError for an unknown key or choice.

    `--make WORDS` brings the variables of make's command line (make writes blanks and backslashes in a value with a
    backslash before them, and doubles `$`); UPPERCASE ones are the Makefile's own and are left out.
    """
    return [
        _prepare_one(argument, sweep) for argument in with_task_of_file(split_arguments(arguments))
    ]


def split_arguments(arguments: Sequence[str]) -> list[str]:
    """The arguments with `--make WORDS` replaced by the words."""
    given = list(arguments)
    if "--make" in given:
        at = given.index("--make")
        given[at : at + 2] = split_make_variables(given[at + 1] if at + 1 < len(given) else "")
    return given


def with_task_of_file(words: Sequence[str]) -> list[str]:
    """With `task=` what the model's file says that it was trained for, where nothing else says it. A file that cannot be
    read is left to those who want more of it."""
    keys = {word.partition("=")[0].lstrip("+~") for word in words}
    models = [word.partition("=")[2] for word in words if word.startswith("model=")]
    if not models or keys & {"task", "experiment"}:
        return list(words)
    task = _task_of_file(Path(models[-1].strip("'\"")).expanduser())
    return [*words, f"task={task}"] if task in _choices("task") else list(words)


def _task_of_file(path: Path) -> str | None:
    from safetensors import SafetensorError, safe_open

    if path.suffix.casefold() != ".safetensors" or not path.is_file():
        return None
    try:
        with safe_open(
            path, framework="numpy"
        ) as file:  # which reads the header only, and needs no torch
            return (file.metadata() or {}).get("task")
    except (SafetensorError, OSError):
        return None


def split_make_variables(words: str) -> list[str]:
    """`task=detect input=My\\ Photos` -> [`task=detect`, `input=My Photos`], in the order they were typed."""
    found = re.findall(r"(?:\\.|[^\s\\])+", words.replace("$$", "$"), flags=re.DOTALL)
    plain = [re.sub(r"\\(.)", r"\1", word, flags=re.DOTALL) for word in found]
    typed = [re.sub(r"^([^=:+?!]+)(?:::?:?|\+|\?|!)?=", r"\1=", word) for word in plain]
    return [word for word in reversed(typed) if not word.partition("=")[0].isupper()]


def _prepare_one(argument: str, sweep: bool) -> str:
    if argument.startswith("-"):
        return argument
    key, equals, value = argument.partition("=")
    name, *below = re.split(r"[./@]", key.lstrip("+~"))
    if not equals and not key.startswith("~"):
        raise ConfigError(
            f"{argument!r}: expected key=value, for example task=detect or input=photos."
        )
    _check_key(name, ".".join(below))
    _check_part_key(name, ".".join([name, *below]))
    if key in _TEXT_KEYS:
        return f"{key}={_quote_all(value) if sweep else _quote(value)}"
    if key == name and not sweep:
        _check_choice(name, value)
    if key in _mappings() and value.startswith("{"):
        return f"++{argument}"  # so that a key below it which there is not reaches `settings`, which answers better
    return argument


def _mappings() -> set[str]:
    """Keys that have a list of their own below them."""
    config = _shipped()
    return {str(name) for name in config if OmegaConf.is_dict(config[name])} - _HYDRA_KEYS


@cache
def _shipped() -> Any:
    """What conf/config.yaml says; parsed once, since that takes 20 ms."""
    return OmegaConf.load(find_resource("conf") / "config.yaml")


def _check_key(name: str, below: str) -> None:
    """`below` is what follows the first dot; of keys that have a list of their own below them it must be in it."""
    config = _shipped()
    groups = {path.name for path in find_resource("conf").iterdir() if path.is_dir()} - {
        "format",
        "exporter",
    }
    known = (set(map(str, config)) | groups | _HYDRA_KEYS) - {"defaults"}
    if name not in known:
        raise ConfigError(
            f"unknown setting {name!r}.{suggest_nearest(name, known)} Known: {', '.join(sorted(known))}."
        )
    if below and name in _mappings() and below not in config[name]:
        has = list(map(str, config[name]))
        raise ConfigError(
            f"unknown setting '{name}.{below}'.{suggest_nearest(below, has)} {name} has: {', '.join(has)}."
        )


def _check_part_key(group: str, key: str) -> None:
    """A setting of a part, such as `source.fps`: one of the parts of its kind must have it."""
    settings = {
        f"{group}.{name}"
        for path in (find_resource("conf") / group).glob("*.yaml")
        for name in _settings_of(path, group)
    }
    if key != group and settings and key not in settings:
        known = sorted(name for name in settings if "." in name)
        raise ConfigError(
            f"unknown setting {key!r}.{suggest_nearest(key, known)} Known: {', '.join(known)}."
        )


def _settings_of(path: Path, group: str) -> list[str]:
    """The names of a part's settings, with a dot where they are nested (`overlays.quality`)."""
    content: Any = OmegaConf.to_container(OmegaConf.load(path))
    found = []
    for name, value in content.get(group, content).items():
        below = [key for key in value if key != "_target_"] if isinstance(value, dict) else []
        found += [name, *(f"{name}.{key}" for key in below)]
    return [
        name
        for name in found
        if name not in ("_target_", "defaults") and not name.startswith("presets")
    ]


def _check_choice(group: str, choice: str) -> None:
    folder = find_resource("conf") / group
    if not folder.is_dir() or choice.startswith("["):
        return
    choices = _choices(group)
    if choice not in choices:
        raise ConfigError(
            f"{group}={choice}: expected {', '.join(choices)}.{suggest_nearest(choice, choices)}"
        )


def _choices(group: str) -> list[str]:
    return sorted(path.stem for path in (find_resource("conf") / group).glob("*.yaml"))


def _quote_all(values: str) -> str:
    return ",".join(_quote(value) for value in values.split(","))


def _quote(value: str) -> str:
    """A Hydra string of exactly these characters, so that a path may hold blanks, commas, brackets or `=`.

    What is already quoted, a list, `null` and OmegaConf's `${...}` keep their meaning.
    """
    if value in ("", "null") or value[0] in "'\"[{" or "${" in value:
        return value
    value = str(Path(value).expanduser()) if value.startswith("~") else value
    escaped = re.sub(r"(\\*)'", lambda found: found[1] * 2 + r"\'", value)
    trailing = len(escaped) - len(escaped.rstrip("\\"))
    return f"'{escaped}{chr(92) * trailing}'"
