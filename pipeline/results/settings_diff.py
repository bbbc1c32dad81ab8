"""Compare the settings of two runs, which their records (run.json) contain."""

from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.core.text_tables import format_pairs

# The fingerprint does not contain these settings, but they can change the last digits of results.
_ALSO = ("weights_sha256", "device", "libraries")


def diff_settings(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Return the settings that differ, as name -> [value before, value after].

    None stands for a setting that a run does not have.
    """
    one, other = (
        dict(_flat("", record["fingerprint_of"] | {name: record.get(name) for name in _ALSO}))
        for record in (before, after)
    )
    names = dict.fromkeys((*one, *other))
    return {
        name: [one.get(name), other.get(name)] for name in names if one.get(name) != other.get(name)
    }


def format_settings_diff(settings: Mapping[str, list[Any]]) -> str:
    """Format the settings that differ as lines of text for the terminal."""
    texts = {name: f"{_short(a)} -> {_short(b)}" for name, (a, b) in settings.items()}
    return "settings that differ\n" + (format_pairs(texts) or "  none")


def _flat(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield (dotted name, value) for each value in a nested mapping."""
    if not isinstance(value, dict):
        yield name, value
        return
    for inner, inner_value in value.items():
        yield from _flat(f"{name}.{inner}" if name else inner, inner_value)


def _short(value: Any) -> str:
    """Format a value in at most 60 characters."""
    if isinstance(value, list) and len(value) > 3:
        return f"{len(value)} values"
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
