"""What a setting's value may be. Each check takes (key, value) and returns the value as the code is to see it, or raises
ConfigError: expected, got."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from pipeline.core.errors import ConfigError, suggest_nearest
from pipeline.core.locations import Location, Uri, parse_location

Check = Callable[[str, Any], Any]


def check_optional_text(key: str, value: Any) -> str | None:
    return None if value is None else check_text(key, value)


def check_text(key: str, value: Any) -> str:
    # an empty text is refused, not taken for null: input=$UNSET must not annotate the samples
    if isinstance(value, str | int | float) and not isinstance(value, bool) and str(value):
        return str(value)
    raise build_refusal(key, value, "a text")


def check_flag(key: str, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    raise build_refusal(key, value, "true or false")


def check_names(key: str, value: Any) -> tuple[str, ...] | None:
    if value is None:
        return None
    given = [value] if isinstance(value, str) else value
    if not OmegaConf.is_list(given) and not isinstance(given, list):
        raise build_refusal(key, value, "a class name or a list such as [dog, cat]")
    if key == "classes" and not given:
        raise build_refusal(key, value, "at least one class name; leave it out for all classes")
    return tuple(str(name).strip() for name in given)


def check_min_score(key: str, value: Any) -> float | dict[str, float] | None:
    expected = "from 0 to 1, or one per class such as {default: 0.5, person: 0.8}"
    if OmegaConf.is_dict(value):
        given = {
            str(name).strip(): check_optional_fraction(f"{key}.{name}", score)
            for name, score in value.items()
        }
        return {name: score for name, score in given.items() if score is not None}
    return check_optional_fraction(key, value, expected)


def check_optional_fraction(key: str, value: Any, expected: str = "from 0 to 1") -> float | None:
    return check_number(key, value, expected, most=1.0)


def check_area(key: str, value: Any) -> float | None:
    return check_number(key, value, "of square pixels, 0 or more")


def check_number(key: str, value: Any, expected: str, most: float = float("inf")) -> float | None:
    if value is None:
        return None
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= most:
        return float(value)
    raise build_refusal(key, value, f"a number {expected}")


def check_optional_integer(least: int) -> Callable[[str, Any], int | None]:
    def check(key: str, value: Any) -> int | None:
        if value is None or (
            isinstance(value, int) and not isinstance(value, bool) and value >= least
        ):
            return value
        raise build_refusal(key, value, f"a whole number, {least} or more")

    return check


def check_integer(least: int) -> Callable[[str, Any], int]:
    def check(key: str, value: Any) -> int:
        given = check_optional_integer(least)(key, value)
        if given is None:
            raise build_refusal(key, value, f"a whole number, {least} or more")
        return given

    return check


def check_mapping(key: str, value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    if OmegaConf.is_dict(value):
        return {str(k): v for k, v in OmegaConf.to_container(value).items()}  # type: ignore[union-attr]
    raise build_refusal(key, value, "a mapping such as {box_detections_per_img: 300}")


def check_fraction(most: float) -> Callable[[str, Any], float]:
    def check(key: str, value: Any) -> float:
        given = check_number(key, value, f"from 0 to {most:g}", most)
        if given is None:
            raise build_refusal(key, value, f"a number from 0 to {most:g}")
        return given

    return check


def check_choice(*choices: str) -> Callable[[str, Any], str]:
    def check(key: str, value: Any) -> str:
        if value in choices:
            return str(value)
        expected = " or ".join(filter(None, [", ".join(choices[:-1]), choices[-1]]))
        raise build_refusal(key, value, expected, suggest_nearest(str(value), choices))

    return check


def allow_none(check: Callable[[str, Any], Any]) -> Callable[[str, Any], Any]:
    return lambda key, value: None if value is None else check(key, value)


def build_refusal(key: str, value: Any, expected: str, hint: str = "") -> ConfigError:
    return ConfigError(
        f"{key}={value}: expected {expected}, got {type(value).__name__} {value!r}.{hint}"
    )


def check_path(key: str, value: Any) -> Location:
    """Or an address."""
    return parse_location(check_text(key, value))


def check_optional_path(key: str, value: Any) -> Location | None:
    return None if value == "null" else check_path(key, value)


def check_paths(key: str, value: Any) -> tuple[Location, ...]:
    given = value if OmegaConf.is_list(value) else [value]
    return tuple(check_path(key, one) for one in given)


def check_local_path(key: str, value: Any) -> Path:
    found = check_path(key, value)
    if isinstance(found, Uri):
        raise ConfigError(
            f"{key}={found}: expected a file or folder of this machine; copy it here first."
        )
    return found
