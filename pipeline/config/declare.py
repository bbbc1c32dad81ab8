"""Declare a setting once: its type, check, default and help text are one dataclass field.

@dataclass(frozen=True)
class Options:
    run: Location = setting(check_path, "outputs/latest", "the run's folder")
"""

from dataclasses import MISSING, field
from typing import Any

from pipeline.config.validators import Check


def setting(check: Check, default: Any = MISSING, help: str = "") -> Any:
    """Declare a dataclass field whose value `check` validates. Without a default it is required."""
    return field(default=default, kw_only=True, metadata={"check": check, "help": help})
