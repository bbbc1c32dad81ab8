"""The settings of verbs that need no model: the fields of a dataclass, read from `key=value` words.

@dataclass(frozen=True)
class Options:
    run: Path = option(finished_run, "outputs/latest", "the run's folder")
"""

from collections.abc import Sequence
from dataclasses import MISSING, Field, field, fields
from pathlib import Path
from typing import Any, TypeVar

from omegaconf import OmegaConf
from yaml import YAMLError

from pipeline.config import validators as checks
from pipeline.config.overrides import split_arguments
from pipeline.core.errors import ConfigError, suggest_nearest
from pipeline.core.locations import Location, Uri, parse_location

T = TypeVar("T")


def option(check: checks.Check, default: Any = MISSING, help: str = "") -> Any:
    """A field that `check` makes of what was given. Without a default it must be given."""
    return field(default=default, kw_only=True, metadata={"check": check, "help": help})


def read_options(verb: str, arguments: Sequence[str], options: type[T]) -> T:
    """`key=value` words, or make's own list of them, as `options`, a dataclass of `option` fields. Raises ConfigError."""
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


def options_text(options: type) -> str:
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


# --- checks that these verbs share


def path(key: str, value: Any) -> Location:
    """Or an address."""
    return parse_location(checks.some_text(key, value))


def path_or_none(key: str, value: Any) -> Location | None:
    return None if value == "null" else path(key, value)


def paths(key: str, value: Any) -> tuple[Location, ...]:
    given = value if OmegaConf.is_list(value) else [value]
    return tuple(path(key, one) for one in given)


def local_path(key: str, value: Any) -> Path:
    found = path(key, value)
    if isinstance(found, Uri):
        raise ConfigError(
            f"{key}={found}: expected a file or folder of this machine; copy it here first."
        )
    return found


_TEXTS = (
    checks.text,
    checks.some_text,
    path,
    path_or_none,
    local_path,
)  # take what was written, a number or a bracket too
