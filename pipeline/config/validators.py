"""Checks of a setting's value.

A check takes (key, value) and returns the value in the type that the code uses. If the value is not
allowed, it raises a ConfigError with the expected and the actual value. A function with another
signature, e.g. `check_integer(least)`, returns a check.
"""

from collections.abc import Callable, Mapping, Sequence
from math import inf
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from pipeline.config.word_grammar import Kind, read_scores
from pipeline.core.errors import ConfigError, suggest_nearest
from pipeline.core.locations import Location, Uri, parse_location
from pipeline.core.memory import parse_bytes

Check = Callable[[str, Any], Any]
_KINDS: dict[Check, Kind] = {}


def declare_kind(kind: Kind) -> Callable[[Check], Check]:
    """Declare how the text of a setting with this check is read. Without it the kind is VALUE."""

    def declare(check: Check) -> Check:
        _KINDS[check] = kind
        return check

    return declare


def find_kind(check: Check) -> Kind:
    """Return how the text of a setting with this check is read."""
    return _KINDS.get(check, Kind.VALUE)


def build_refusal(key: str, value: Any, expected: str, hint: str = "") -> ConfigError:
    """Return the error for a value that is not allowed."""
    return ConfigError(
        f"{key}={value}: expected {expected}, got {type(value).__name__} {value!r}.{hint}"
    )


def allow_none(check: Check) -> Check:
    """Make a check that also accepts None."""
    return declare_kind(find_kind(check))(
        lambda key, value: None if value is None else check(key, value)
    )


def is_list(value: Any) -> bool:
    """Whether the value is a list of Python, JSON or OmegaConf."""
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def is_number(value: Any) -> bool:
    """Whether the value is an integer or a float. True and False are not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


# --- texts and paths


@declare_kind(Kind.TEXT)
def check_text(key: str, value: Any) -> str:
    # An empty text is refused, not treated as null. Otherwise input=$UNSET would annotate the
    # samples.
    if not (isinstance(value, str) or is_number(value)) or not str(value):
        raise build_refusal(key, value, "a text")
    if "\0" in str(value):  # no path, and no option of a library, can have one
        raise build_refusal(key, value, "a text without NUL characters")
    return str(value)


@declare_kind(Kind.TEXT)
def check_optional_text(key: str, value: Any) -> str | None:
    return None if value is None else check_text(key, value)


@declare_kind(Kind.TEXT)
def check_utf8_path(key: str, value: Any) -> str:
    """Refuse a path with bytes that are not UTF-8, because JSON and Parquet cannot store them."""
    text = check_text(key, value)
    if not text.isprintable() and any("\ud800" <= letter <= "\udfff" for letter in text):
        shown = text.encode("utf-8", "backslashreplace").decode()
        raise build_refusal(key, shown, "a path that is valid UTF-8")
    return text


@declare_kind(Kind.TEXT)
def check_path(key: str, value: Any) -> Location:
    """Return a path, or an address for a text like s3://bucket/folder."""
    return parse_location(check_text(key, value))


@declare_kind(Kind.TEXT)
def check_optional_path(key: str, value: Any) -> Location | None:
    return None if value in (None, "null") else check_path(key, value)


@declare_kind(Kind.TEXT)
def check_local_path(key: str, value: Any) -> Path:
    location = check_path(key, value)
    if isinstance(location, Uri):
        raise ConfigError(
            f"{key}={location}: expected a file or folder of this machine; copy it here first."
        )
    return location


@declare_kind(Kind.TEXTS)
def check_paths(key: str, value: Any) -> tuple[Location, ...]:
    values = value if is_list(value) else [value]
    return tuple(check_path(key, item) for item in values)


# --- numbers


def check_number(key: str, value: Any, expected: str, most: float = inf) -> float | None:
    """Accept None and numbers from 0 to `most`."""
    if value is None:
        return None
    if is_number(value) and 0 <= value <= most:
        return float(value)
    raise build_refusal(key, value, f"a number {expected}")


def check_optional_fraction(key: str, value: Any, expected: str = "from 0 to 1") -> float | None:
    return check_number(key, value, expected, most=1.0)


def check_area(key: str, value: Any) -> float | None:
    return check_number(key, value, "of square pixels, 0 or more")


def check_aspect(key: str, value: Any) -> float:
    """Accept numbers of at least 1."""
    if is_positive(value) and value >= 1:
        return float(value)
    raise build_refusal(key, value, "a number, 1 or more")


def check_bytes(key: str, value: Any) -> int:
    """Accept a number of bytes, or a text such as 512MB, 1.5GB or 2GiB. Return bytes."""
    try:
        return parse_bytes(str(value)) if not isinstance(value, bool) else int("")
    except (ValueError, OverflowError):
        raise build_refusal(key, value, "a size such as 2GB, 512MB or 1.5GiB") from None


def check_fraction(most: float) -> Callable[[str, Any], float]:
    """Make a check for numbers from 0 to `most`."""

    def check(key: str, value: Any) -> float:
        number = check_number(key, value, f"from 0 to {most:g}", most)
        if number is None:
            raise build_refusal(key, value, f"a number from 0 to {most:g}")
        return number

    return check


def check_levels(key: str, value: Any) -> str | tuple[float, float]:
    """Accept `full`, `auto`, and two ascending numbers."""
    if value in ("full", "auto"):
        return str(value)
    if is_list(value) and len(value) == 2 and all(map(is_number, value)):
        low, high = float(value[0]), float(value[1])
        if -inf < low < high < inf:
            return low, high
    raise build_refusal(
        key, value, "full, auto, or two numbers such as [0,4095], the lower one first"
    )


def check_bands(key: str, value: Any) -> tuple[int, ...] | None:
    """Accept None, and one or three numbers of channels from 1."""
    if value is None:
        return None
    values = list(value) if is_list(value) else [value]
    is_whole = all(isinstance(item, int) and not isinstance(item, bool) for item in values)
    if len(values) in (1, 3) and is_whole and min(values) >= 1:
        return tuple(values)
    raise build_refusal(key, value, "three channels such as [3,2,1], or one, counted from 1")


def check_integer(least: int) -> Callable[[str, Any], int]:
    """Make a check for whole numbers of at least `least`."""

    def check(key: str, value: Any) -> int:
        if isinstance(value, int) and not isinstance(value, bool) and value >= least:
            return value
        raise build_refusal(key, value, f"a whole number, {least} or more")

    return check


def check_optional_integer(least: int) -> Callable[[str, Any], int | None]:
    """Make a check for None and whole numbers of at least `least`."""
    return allow_none(check_integer(least))


def is_positive(value: Any) -> bool:
    """Whether the value is a finite number above 0."""
    return is_number(value) and 0 < value < inf


# --- choices, lists and mappings


def check_flag(key: str, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    raise build_refusal(key, value, "true or false")


def check_choice(*choices: str) -> Callable[[str, Any], str]:
    """Make a check that accepts one of these words."""

    def check(key: str, value: Any) -> str:
        if value in choices:
            return str(value)
        expected = " or ".join(filter(None, [", ".join(choices[:-1]), choices[-1]]))
        raise build_refusal(key, value, expected, suggest_nearest(str(value), choices))

    return check


@declare_kind(Kind.TEXTS)
def check_names(key: str, value: Any) -> tuple[str, ...] | None:
    """Accept one class name, a list of them, or None."""
    if value is None:
        return None

    names = [value] if isinstance(value, str) else value
    if not is_list(names):
        raise build_refusal(key, value, "a class name or a list such as [dog, cat]")
    if key == "classes" and not names:
        raise build_refusal(key, value, "at least one class name; leave it out for all classes")

    for name in names:
        # YAML turns no, 1.10 and null into values whose text as written is lost.
        if not isinstance(name, str | int) or isinstance(name, bool):
            raise build_refusal(key, name, "a class name", " In a YAML file put it in quotes.")
    return tuple(str(name).strip() for name in names)


def check_mapping(key: str, value: Any) -> dict[str, Any]:
    """Accept a mapping. None becomes an empty one."""
    if value is None:
        return {}
    if isinstance(value, Mapping):
        plain: Any = OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
        return {str(name): item for name, item in plain.items()}
    raise build_refusal(key, value, "a mapping such as {box_detections_per_img: 300}")


@declare_kind(Kind.SCORES)
def check_min_score(key: str, value: Any) -> float | dict[str, float] | None:
    """Accept None, one score for all classes, or a score for each class name and `default`.

    The mapping may also be a text, as on the command line: `{default: 0.5, person: 0.8}`.
    """
    if isinstance(value, str) and value.lstrip().startswith("{"):
        value = read_scores(key, value)
    if isinstance(value, Mapping):
        scores = {
            str(name).strip(): check_optional_fraction(f"{key}.{name}", score)
            for name, score in value.items()
        }
        return {name: score for name, score in scores.items() if score is not None}

    expected = "from 0 to 1, or one per class such as {default: 0.5, person: 0.8}"
    return check_optional_fraction(key, value, expected)
