"""What a setting's value may be. Each check takes (key, value) and returns the value as the code is to see it, or raises
ConfigError: expected, got."""

from collections.abc import Callable
from typing import Any

from omegaconf import OmegaConf

from pipeline.core.errors import ConfigError, suggest_nearest

Check = Callable[[str, Any], Any]


def text(key: str, value: Any) -> str | None:
    return None if value is None else some_text(key, value)


def some_text(key: str, value: Any) -> str:
    # an empty text is refused, not taken for null: input=$UNSET must not annotate the samples
    if isinstance(value, str | int | float) and not isinstance(value, bool) and str(value):
        return str(value)
    raise refusal(key, value, "a text")


def flag(key: str, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    raise refusal(key, value, "true or false")


def names(key: str, value: Any) -> tuple[str, ...] | None:
    if value is None:
        return None
    given = [value] if isinstance(value, str) else value
    if not OmegaConf.is_list(given) and not isinstance(given, list):
        raise refusal(key, value, "a class name or a list such as [dog, cat]")
    if key == "classes" and not given:
        raise refusal(key, value, "at least one class name; leave it out for all classes")
    return tuple(str(name).strip() for name in given)


def min_score(key: str, value: Any) -> float | dict[str, float] | None:
    expected = "from 0 to 1, or one per class such as {default: 0.5, person: 0.8}"
    if OmegaConf.is_dict(value):
        given = {
            str(name).strip(): fraction(f"{key}.{name}", score) for name, score in value.items()
        }
        return {name: score for name, score in given.items() if score is not None}
    return fraction(key, value, expected)


def fraction(key: str, value: Any, expected: str = "from 0 to 1") -> float | None:
    return number(key, value, expected, most=1.0)


def area(key: str, value: Any) -> float | None:
    return number(key, value, "of square pixels, 0 or more")


def number(key: str, value: Any, expected: str, most: float = float("inf")) -> float | None:
    if value is None:
        return None
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= most:
        return float(value)
    raise refusal(key, value, f"a number {expected}")


def whole(least: int) -> Callable[[str, Any], int | None]:
    def check(key: str, value: Any) -> int | None:
        if value is None or (
            isinstance(value, int) and not isinstance(value, bool) and value >= least
        ):
            return value
        raise refusal(key, value, f"a whole number, {least} or more")

    return check


def required(least: int) -> Callable[[str, Any], int]:
    def check(key: str, value: Any) -> int:
        given = whole(least)(key, value)
        if given is None:
            raise refusal(key, value, f"a whole number, {least} or more")
        return given

    return check


def mapping(key: str, value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    if OmegaConf.is_dict(value):
        return {str(k): v for k, v in OmegaConf.to_container(value).items()}  # type: ignore[union-attr]
    raise refusal(key, value, "a mapping such as {box_detections_per_img: 300}")


def required_fraction(most: float) -> Callable[[str, Any], float]:
    def check(key: str, value: Any) -> float:
        given = number(key, value, f"from 0 to {most:g}", most)
        if given is None:
            raise refusal(key, value, f"a number from 0 to {most:g}")
        return given

    return check


def one_of(*choices: str) -> Callable[[str, Any], str]:
    def check(key: str, value: Any) -> str:
        if value in choices:
            return str(value)
        expected = " or ".join(filter(None, [", ".join(choices[:-1]), choices[-1]]))
        raise refusal(key, value, expected, suggest_nearest(str(value), choices))

    return check


def or_none(check: Callable[[str, Any], Any]) -> Callable[[str, Any], Any]:
    return lambda key, value: None if value is None else check(key, value)


def refusal(key: str, value: Any, expected: str, hint: str = "") -> ConfigError:
    return ConfigError(
        f"{key}={value}: expected {expected}, got {type(value).__name__} {value!r}.{hint}"
    )
