"""Read the settings of verbs that need no model from `key=value` words."""

from collections.abc import Sequence
from typing import Any, TypeVar

from omegaconf import OmegaConf
from yaml import YAMLError

from pipeline.config.declare import list_declarations
from pipeline.config.help_text import format_settings
from pipeline.config.overrides import split_arguments
from pipeline.config.word_grammar import Kind, read_scores, read_text, read_texts
from pipeline.core.errors import ConfigError, suggest_nearest

T = TypeVar("T")


def read_options(verb: str, arguments: Sequence[str], options: type[T]) -> T:
    """Build `options`, a dataclass of `setting` fields, from `key=value` words.

    Raises:
        ConfigError: A setting is unknown, missing, or has a value that is not allowed.
    """
    known = {item.name: item for item in list_declarations(options)}
    values: dict[str, Any] = {}

    for word in split_arguments(arguments):
        key, equals, text = word.partition("=")
        if not equals:
            raise ConfigError(f"{word!r}: expected key=value, for example run=outputs/latest.")
        if key not in known:
            raise ConfigError(
                f"{verb} has no setting {key!r}.{suggest_nearest(key, known)} "
                f"It has {', '.join(known)}."
            )
        values[key] = known[key].check(key, _read_word(key, text, known[key].kind))

    for name, item in known.items():
        if item.is_required and name not in values:
            raise ConfigError(f"{verb} needs {name}=, {item.help}.")
    return options(**values)


def format_options(options: type) -> str:
    """Return the settings of a dataclass with their defaults as text, for `VERB --help`."""
    return format_settings(list_declarations(options))


def _read_word(key: str, text: str, kind: Kind) -> Any:
    if kind is Kind.TEXT:
        return read_text(text)
    if kind is Kind.TEXTS:
        return read_texts(key, text)
    is_mapping = kind is Kind.SCORES and text.lstrip().startswith("{")
    return read_scores(key, text) if is_mapping else _parse_value(key, text)


def _parse_value(key: str, text: str) -> Any:
    """Parse a value by the rules of YAML: a list, mapping, number, truth value or text."""
    try:
        return OmegaConf.from_dotlist([f"value={text}"])["value"]
    except (YAMLError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"{key}={text}: cannot be read ({reason}).") from None
