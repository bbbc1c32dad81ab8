"""The settings of verbs that need no model: the fields of a dataclass, read from `key=value` words.

@dataclass(frozen=True)
class Options:
    run: Path = setting(check_path, "outputs/latest", "the run's folder")
"""

from collections.abc import Sequence
from dataclasses import MISSING, Field, fields
from typing import Any, TypeVar

from omegaconf import OmegaConf
from yaml import YAMLError

from pipeline.config.overrides import split_arguments
from pipeline.config.validators import (
    check_local_path,
    check_optional_path,
    check_optional_text,
    check_path,
    check_text,
)
from pipeline.core.errors import ConfigError, suggest_nearest

T = TypeVar("T")


def read_options(verb: str, arguments: Sequence[str], options: type[T]) -> T:
    """`key=value` words, or make's own list of them, as `options`, a dataclass of `setting` fields. Raises ConfigError."""
    known: dict[str, Field[Any]] = {one.name: one for one in fields(options)}  # type: ignore[arg-type]
    values = {name: one.default for name, one in known.items()}
    for word in split_arguments(arguments):
        key, equals, value = word.partition("=")
        if not equals:
            raise ConfigError(f"{word!r}: expected key=value, for example run=outputs/latest.")
        if key not in known:
            raise ConfigError(
                f"{verb} has no setting {key!r}.{suggest_nearest(key, known)} It has {', '.join(known)}."
            )
        check = known[key].metadata["check"]
        values[key] = check(key, value if check in _TEXTS else _parsed(key, value))
    missing = [name for name, value in values.items() if value is MISSING]
    if missing:
        raise ConfigError(f"{verb} needs {missing[0]}=, {known[missing[0]].metadata['help']}.")
    return options(**values)


def format_options(options: type) -> str:
    """The settings with their defaults, for people."""
    lines = []
    for one in fields(options):
        default = "" if one.default in (MISSING, None) else f" [{one.default}]"
        lines.append(f"  {one.name:<10} {one.metadata['help']}{default}")
    return "\n".join(lines)


def _parsed(key: str, value: str) -> Any:
    """As YAML reads it: a list, a mapping, a number, a truth value, a text."""
    try:
        return OmegaConf.from_dotlist([f"value={value}"])["value"]
    except (YAMLError, ValueError) as error:
        raise ConfigError(
            f"{key}={value}: cannot be read ({str(error).splitlines()[0]})."
        ) from None


_TEXTS = (
    check_optional_text,
    check_text,
    check_path,
    check_optional_path,
    check_local_path,
)  # take what was written, a number or a bracket too
