"""The anchor sizes and ratios that a user can set for a detector."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Anchors:
    """Anchor sizes and ratios of a detector; a field that is None keeps the builder's values.

    Args:
        sizes: Sizes of each level of feature maps, in pixels of the network's input.
        ratios: Height / width. Every level has all of them.
    """

    sizes: tuple[tuple[float, ...], ...] | None = None
    ratios: tuple[float, ...] | None = None

    @classmethod
    def from_mapping(cls, given: Mapping[str, Any]) -> "Anchors":
        """Build anchors from the fields of `settings.anchors`, or from a file's metadata.

        Raises:
            ValueError, TypeError: A field is not a list of positive numbers.
        """
        if not isinstance(given, Mapping) or set(given) - {"sizes", "ratios"}:
            raise ValueError("expected sizes and ratios")
        sizes, ratios = given.get("sizes"), given.get("ratios")
        return cls(
            None if sizes is None else tuple(_parse_numbers(level) for level in _check_list(sizes)),
            None if ratios is None else _parse_numbers(ratios),
        )

    def __bool__(self) -> bool:
        """Return whether anything differs from the builder's anchors."""
        return self.sizes is not None or self.ratios is not None

    def to_dict(self) -> dict[str, Any]:
        """Return the fields that are set, as values that JSON can hold."""
        fields = {
            "sizes": self.sizes and [list(level) for level in self.sizes],
            "ratios": self.ratios and list(self.ratios),
        }
        return {name: value for name, value in fields.items() if value is not None}

    def to_overrides(self) -> str:
        """Format the anchors as command-line overrides, `anchors.sizes=[[32],[64]]`."""
        words = []
        if self.sizes:
            words.append(f"anchors.sizes={_format_override(self.sizes)}")
        if self.ratios:
            words.append(f"anchors.ratios={_format_override(self.ratios)}")
        return " ".join(words)


def _check_list(values: Any) -> Sequence[Any]:
    if not isinstance(values, list | tuple) or not values:
        raise ValueError(f"expected a list, got {values!r}")
    return values


def _parse_numbers(values: Any) -> tuple[float, ...]:
    numbers = tuple(float(value) for value in _check_list(values))
    if not all(0 < number < float("inf") for number in numbers):
        raise ValueError(f"expected numbers above 0, got {values!r}")
    return numbers


def _format_override(values: Sequence[Any]) -> str:
    """Format nested numbers without blanks, which would end a word on the command line."""
    items = (_format_override(v) if isinstance(v, list | tuple) else f"{v:g}" for v in values)
    return f"[{','.join(items)}]"
