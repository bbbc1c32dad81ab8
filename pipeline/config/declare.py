"""Declare each setting once: one dataclass field has its type, check, default and help text.

    @dataclass(frozen=True)
    class Options:
        run: Location = setting(check_path, Path("outputs/latest"), "the run's folder")

Help texts, docs/settings.md and the defaults that Hydra composes are all made from these fields.
"""

from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any

from pipeline.config.validators import Check, build_refusal, find_kind
from pipeline.config.word_grammar import Kind
from pipeline.core.errors import ConfigError, suggest_nearest


@dataclass(frozen=True)
class Declaration:
    """One declared setting."""

    name: str  # as on the command line; `tiles.size` for a setting of the mapping `tiles`
    check: Check
    default: Any  # MISSING: the setting is required
    help: str

    @property
    def kind(self) -> Kind:
        """Return how the text of the setting is read on the command line."""
        return find_kind(self.check)

    @property
    def is_required(self) -> bool:
        return self.default is MISSING


def setting(check: Check, default: Any = MISSING, help: str = "") -> Any:
    """Declare a dataclass field whose value `check` validates. Without a default it is required."""
    metadata = {"check": check, "default": default, "help": help}
    if isinstance(default, list):
        return field(default_factory=default.copy, kw_only=True, metadata=metadata)
    return field(default=default, kw_only=True, metadata=metadata)


def nested_settings(kind: type, example: str) -> Any:
    """Declare a dataclass field that holds the settings of another dataclass.

    Args:
        kind: The frozen dataclass. Its fields are declared with `setting`.
        example: One setting of `kind` with a value, for error messages, e.g. `size: 640`.
    """
    return field(default_factory=kind, kw_only=True, metadata={"kind": kind, "example": example})


def list_declarations(kind: type, prefix: str = "") -> Iterator[Declaration]:
    """Yield the settings of a dataclass. Settings of nested dataclasses have dotted names."""
    for item in fields(kind):
        name, metadata = prefix + item.name, item.metadata

        if "kind" in metadata:
            yield from list_declarations(metadata["kind"], f"{name}.")
        elif "check" in metadata:
            yield Declaration(name, metadata["check"], metadata["default"], metadata["help"])


def build_defaults(kind: type) -> dict[str, Any]:
    """Return the defaults of a dataclass's settings. Nested dataclasses become nested mappings."""
    defaults: dict[str, Any] = {}

    for item in fields(kind):
        if "kind" in item.metadata:
            defaults[item.name] = build_defaults(item.metadata["kind"])
        elif "check" in item.metadata:
            defaults[item.name] = item.metadata["default"]

    return defaults


def check_values(kind: type, given: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Check the values of a dataclass's settings.

    Args:
        kind: The dataclass. Fields without a declaration are skipped.
        given: A value for each declared setting. Nested settings are a mapping.
        prefix: Text before a setting's name in error messages, e.g. `tiles.`.

    Returns:
        The checked values by field name, nested ones as instances of their dataclass.

    Raises:
        ConfigError: A value is not allowed, or a nested mapping has an unknown key.
    """
    values: dict[str, Any] = {}

    for item in fields(kind):
        key, metadata = prefix + item.name, item.metadata
        if "kind" in metadata:
            values[item.name] = _check_nested(key, given[item.name], **metadata)
        elif "check" in metadata:
            values[item.name] = metadata["check"](key, given[item.name])

    return values


def _check_nested(key: str, value: Any, kind: type, example: str) -> Any:
    if not isinstance(value, Mapping):
        hint = f" Say {key}.{example.replace(': ', '=')}, or {key}={{{example}}}."
        raise build_refusal(key, value, "a mapping", hint)

    known = [item.name for item in fields(kind)]
    for name in map(str, value):
        if name not in known:
            raise ConfigError(
                f"{key}.{name}: {key} has no such setting.{suggest_nearest(name, known)} "
                f"It has {', '.join(known)}."
            )

    return kind(**check_values(kind, value, f"{key}."))
