"""Format settings with their defaults and meanings as plain text for `VERB --help`."""

from collections.abc import Iterable, Sequence
from dataclasses import MISSING
from textwrap import wrap
from typing import Any

from pipeline.config.conf_files import (
    ComponentFile,
    ComponentSetting,
    list_choices,
    read_component_file,
    read_default_choices,
)
from pipeline.config.declare import Declaration, list_declarations
from pipeline.config.settings import COMPONENT_KINDS, GROUP_VERBS, GROUPS

_WIDTH = 100
_TRAINING_KINDS = ("examples", "experiment")
CHOICES = {**COMPONENT_KINDS, "experiment": "settings that belong together"}


def format_all_settings(verb: str) -> str:
    """Format the settings of a verb that composes `Settings`: first its groups, then components."""
    groups = [group for group in GROUPS if verb in GROUP_VERBS.get(group, (verb,))]
    groups.sort(key=lambda group: group not in GROUP_VERBS)  # the verb's own settings first

    blocks = [
        f"{get_heading(group)}\n{format_settings(list_declarations(group))}" for group in groups
    ]
    blocks += [
        _format_kind(kind, meaning)
        for kind, meaning in CHOICES.items()
        if kind not in _TRAINING_KINDS or verb in ("train", "anchors")
    ]
    return "\n\n".join(blocks)


def format_settings(settings: Iterable[Declaration]) -> str:
    """Format settings, each on a line with its default in brackets."""
    rows = []
    for item in settings:
        has_default = not item.is_required and item.default not in (None, ())
        default = f" [{format_value(item.default)}]" if has_default else ""
        rows.append((item.name, item.help + default))
    return _align(rows)


def format_value(value: Any) -> str:
    """Format a value as a user types it on the command line."""
    if value is MISSING:
        return ""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(format_value, value))}]"
    if isinstance(value, int) and value >= 1_000_000:
        return f"{value:_}"
    return str(value)


def get_heading(group: type) -> str:
    """Return the heading of a group of settings, which is its docstring."""
    return (group.__doc__ or "").splitlines()[0].rstrip(".")


def list_own_settings(kind: str, component: ComponentFile) -> list[ComponentSetting]:
    """List a component's settings, without those whose value is copied from another setting.

    An experiment has no settings of its own, because it sets the settings of other groups.
    """
    if kind == "experiment":
        return []
    return [item for item in component.settings if not item.is_reference]


def is_default(kind: str, name: str) -> bool:
    """Return whether a component is chosen if the command line names no component of its kind."""
    default = read_default_choices().get(kind)
    return name in default if isinstance(default, list) else name == default


def _format_kind(kind: str, meaning: str) -> str:
    rows: list[tuple[str, str]] = []
    for name in list_choices(kind):
        component = read_component_file(kind, name)
        default = " [default]" if is_default(kind, name) else ""
        rows += [(f"{kind}={name}", component.summary + default), *_component_rows(kind, component)]
    return f"{kind}=: {meaning}\n{_align(rows)}"


def _component_rows(kind: str, component: ComponentFile) -> list[tuple[str, str]]:
    return [
        (f"  {kind}.{item.name}", f"{item.comment} [{item.value}]".removesuffix(" [null]"))
        for item in list_own_settings(kind, component)
    ]


def _align(rows: Sequence[tuple[str, str]]) -> str:
    """Format rows with the names in one column and the wrapped texts in a second column."""
    column = max([10, *(len(name) for name, _ in rows)])
    lines = []

    for name, text in rows:
        first, *others = wrap(text, _WIDTH - column - 3) or [""]
        lines.append(f"  {name:<{column}} {first}".rstrip())
        lines += [" " * (column + 3) + line for line in others]

    return "\n".join(lines)
