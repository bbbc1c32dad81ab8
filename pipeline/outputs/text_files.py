"""Text files and JSON that stream, as exporters write them."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any, TextIO

import numpy as np


def format_json(value: Any) -> str:
    """On one line, without NaN and infinity, which JSON does not have: they become null. Dates and times, which a source
    may carry, are written as ISO 8601 has them."""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, default=_iso)
    except ValueError:
        return json.dumps(_finite(value), ensure_ascii=False, allow_nan=False, default=_iso)


def _iso(value: date) -> str:
    return value.isoformat()


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


class JsonItemWriter:
    """Members of a JSON list or object, written one by one, each on its line."""

    def __init__(self, file: TextIO) -> None:
        self.file, self.count = file, 0

    def add(self, value: Any, key: str | None = None) -> None:
        before = "" if key is None else format_json(key) + ": "
        self.file.write((",\n" if self.count else "\n") + before + format_json(value))
        self.count += 1


@contextmanager
def open_text_file(path: Path) -> Iterator[TextIO]:
    """For writing, the same bytes on every machine."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        yield file
