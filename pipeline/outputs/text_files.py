"""Write text files and JSON item by item, so that memory does not grow with the run."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any, TextIO

import numpy as np


@contextmanager
def open_text_file(path: Path) -> Iterator[TextIO]:
    """Open a file for writing UTF-8 text. Lines end with \\n on every system."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        yield file


def format_json(value: Any) -> str:
    """Format a value as JSON on one line.

    NaN and infinity, which JSON cannot hold, become null. Dates and times become ISO 8601 texts.
    """
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, default=_format_date)
    except ValueError:
        value = _replace_nonfinite(value)
        return json.dumps(value, ensure_ascii=False, allow_nan=False, default=_format_date)


class JsonItemWriter:
    """Writer of a JSON list's items or a JSON object's members, each on its own line."""

    def __init__(self, file: TextIO) -> None:
        self.file, self.count = file, 0

    def add(self, value: Any, key: str | None = None) -> None:
        """Write one item; `key` is the name of an object's member."""
        separator = ",\n" if self.count else "\n"
        name = "" if key is None else format_json(key) + ": "
        self.file.write(separator + name + format_json(value))
        self.count += 1


def _format_date(value: date) -> str:
    return value.isoformat()


def _replace_nonfinite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _replace_nonfinite(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_replace_nonfinite(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
