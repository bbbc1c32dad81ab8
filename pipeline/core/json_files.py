"""Read JSON files that a run wrote, and check their shape."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.core.errors import RunDamaged

Types = type | tuple[type, ...]


def read_json_object(path: Path, types: Mapping[str, Types]) -> dict[str, Any]:
    """Read a JSON file that has an object with at least these keys.

    Args:
        path: The file.
        types: Key -> the type of its value, or several.

    Raises:
        RunDamaged: The file is not JSON, or its content has another shape.
        OSError: It cannot be opened.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise RunDamaged(f"{path} is damaged: expected JSON; {reason}. Restore the file.") from None
    check_object(content, types, str(path))
    return dict(content)


def check_object(content: Any, types: Mapping[str, Types], where: str) -> None:
    """Raise RunDamaged unless a value of a JSON file is an object with these keys and types."""
    if not isinstance(content, dict):
        raise RunDamaged(f"{where} is damaged: expected an object, got {_describe(content)}.")
    for key, expected in types.items():
        if key not in content:
            raise RunDamaged(f"{where} is damaged: expected {key!r}, got nothing.")
        value = content[key]
        is_flag = isinstance(value, bool) and expected is int
        if is_flag or not isinstance(value, expected):
            raise RunDamaged(
                f"{where} is damaged: expected another value of {key!r}, got {_describe(value)}."
            )


def _describe(value: Any) -> str:
    return "nothing" if value is None else repr(value)[:60]
