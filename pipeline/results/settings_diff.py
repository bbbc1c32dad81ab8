"""Compare the settings of two runs, as their records (run.json) hold them."""

from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.core.text_tables import format_pairs

_ALSO = (
    "weights_sha256",
    "device",
    "libraries",
)  # not in the fingerprint, and may move the last digits


def diff_settings(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Return the settings that differ: name -> [before, after], None where a run lacks it."""
    one, other = (
        dict(_flat("", record["fingerprint_of"] | {name: record.get(name) for name in _ALSO}))
        for record in (before, after)
    )
    names = dict.fromkeys((*one, *other))
    return {
        name: [one.get(name), other.get(name)] for name in names if one.get(name) != other.get(name)
    }


def format_settings_diff(settings: Mapping[str, list[Any]]) -> str:
    """Return the settings that differ as lines for people."""
    said = {name: f"{_short(a)} -> {_short(b)}" for name, (a, b) in settings.items()}
    return "settings that differ\n" + (format_pairs(said) or "  none")


def _flat(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield (dotted name, value) for each value in a nested mapping."""
    if not isinstance(value, dict):
        yield name, value
        return
    for inner, one in value.items():
        yield from _flat(f"{name}.{inner}" if name else inner, one)


def _short(value: Any) -> str:
    if isinstance(value, list) and len(value) > 3:
        return f"{len(value)} values"
    said = str(value)
    return said if len(said) <= 60 else f"{said[:57]}..."
