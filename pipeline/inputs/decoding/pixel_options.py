"""Choose how values of more than eight bits become brightness, and which channels are shown."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class PixelOptions:
    """The settings `levels` and `bands`. The defaults read a file as its format says."""

    levels: str | tuple[float, float] = "full"  # full, auto, or (black, white)
    bands: tuple[int, ...] | None = None  # from 1: three bands shown as RGB, or one as grey

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> "PixelOptions":
        """Return the options of a mapping with `levels` and `bands`, such as a run's record."""
        levels, bands = settings.get("levels", "full"), settings.get("bands")
        return cls(
            levels if isinstance(levels, str) else (float(levels[0]), float(levels[1])),
            tuple(bands) if bands else None,
        )


AS_STORED = PixelOptions()
