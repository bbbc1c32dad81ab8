"""What the user set, checked once. Everything behind this boundary can trust it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from pipeline.errors import ConfigError, nearest
from pipeline.resources import resource

PARTS = ("task", "source", "engine", "executor", "sink")


@dataclass(frozen=True)
class Settings:
    """The flat keys of conf/config.yaml, nulls replaced by the task's defaults, and the nodes of the parts."""

    task: str
    model: str
    weights: str
    categories: str | None
    preprocess: str
    channels: str
    model_args: Mapping[str, Any]
    trust_code: bool
    seed: int
    input: str | None  # None: not given, and the task has no samples
    output: str
    limit: int | None
    max_pixels: int
    changed: str
    retry: str | None  # errors
    classes: tuple[str, ...] | None
    exclude: tuple[str, ...] | None
    min_score: float | Mapping[str, float]  # a mapping always has the key "default"
    min_area: float | None
    nms_iou: float | None
    max_detections: int | None
    top_k: int | None
    tiles: Mapping[str, Any]  # size (None: no tiles), overlap, merge, iou
    flip: bool
    batch_size: int | str | None  # auto: measured; None: the task's for the device
    shard_size: int
    workers: int | None
    timeout: int  # seconds for one input to be read and decoded
    device: str
    jpeg: str  # cpu, gpu: what decodes JPEG files
    precision: str | None  # None: the engine's own
    overlays: bool | int
    dry_run: bool
    bench: Mapping[str, Any]  # images, repeats, engines, peers
    log_level: str
    parts: Mapping[str, Any]

    @property
    def lowest_min_score(self) -> float:
        return min(self.min_score.values()) if isinstance(self.min_score, Mapping) else self.min_score

    @classmethod
    def from_config(cls, cfg: DictConfig, task: str) -> "Settings":
        """`cfg` as Hydra composed it, `task` the name of the chosen file in conf/task. Raises ConfigError."""
        raw: Any = OmegaConf.to_container(cfg, resolve=False)
        try:
            values = {key: check(key, cfg[key]) for key, check in _CHECKS.items()}
            _fill_presets(values, raw["task"].get("presets", {}))
            # the parts' nodes refer to flat keys (root: ${input}); they must see the checked values
            complete = OmegaConf.create({**{kind: raw.get(kind, {}) for kind in PARTS}, **_plain(values)})
            nodes: Any = OmegaConf.to_container(complete, resolve=True)
        except OmegaConfBaseException as error:
            raise ConfigError(f"The configuration cannot be resolved: {str(error).splitlines()[0]}") from None
        return cls(**values, task=task, parts={kind: nodes[kind] for kind in PARTS})


def _fill_presets(values: dict[str, Any], presets: Mapping[str, Any]) -> None:
    sampled = values["input"] is None and presets["sample_model"] is not None
    if values["model"] is None:  # the samples' detector is for the samples: never used on a user's images unasked
        values["model"] = presets["sample_model" if sampled else "model"]
    if sampled:
        values["input"] = str(resource("data") / "samples")
    for key in ("min_score", "top_k"):
        if values[key] is None:
            values[key] = presets.get(key)
    if isinstance(values["min_score"], dict):
        values["min_score"] = {"default": presets["min_score"], **values["min_score"]}


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}


def _text(key: str, value: Any) -> str | None:
    return None if value is None else _some_text(key, value)


def _some_text(key: str, value: Any) -> str:
    # an empty text is refused, not taken for null: input=$UNSET must not annotate the samples
    if isinstance(value, str | int | float) and not isinstance(value, bool) and str(value):
        return str(value)
    raise _refusal(key, value, "a text")


def _output(key: str, value: Any) -> str:
    text = _some_text(key, value)
    if not text.isprintable() and any("\ud800" <= letter <= "\udfff" for letter in text):
        raise _refusal(key, text.encode("utf-8", "backslashreplace").decode(), "a path that is valid UTF-8")
    return text


def _flag(key: str, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    raise _refusal(key, value, "true or false")


def _names(key: str, value: Any) -> tuple[str, ...] | None:
    if value is None:
        return None
    names = [value] if isinstance(value, str) else value
    if not OmegaConf.is_list(names) and not isinstance(names, list):
        raise _refusal(key, value, "a class name or a list such as [dog, cat]")
    if key == "classes" and not names:
        raise _refusal(key, value, "at least one class name; leave it out for all classes")
    return tuple(str(name).strip() for name in names)


def _min_score(key: str, value: Any) -> float | dict[str, float] | None:
    expected = "from 0 to 1, or one per class such as {default: 0.5, person: 0.8}"
    if OmegaConf.is_dict(value):
        given = {str(name).strip(): _fraction(f"{key}.{name}", score) for name, score in value.items()}
        return {name: score for name, score in given.items() if score is not None}
    return _fraction(key, value, expected)


def _fraction(key: str, value: Any, expected: str = "from 0 to 1") -> float | None:
    return _number(key, value, expected, most=1.0)


def _area(key: str, value: Any) -> float | None:
    return _number(key, value, "of square pixels, 0 or more")


def _number(key: str, value: Any, expected: str, most: float = float("inf")) -> float | None:
    if value is None:
        return None
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= most:
        return float(value)
    raise _refusal(key, value, f"a number {expected}")


def _whole(least: int) -> Callable[[str, Any], int | None]:
    def check(key: str, value: Any) -> int | None:
        if value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= least):
            return value
        raise _refusal(key, value, f"a whole number, {least} or more")

    return check


def _required(least: int) -> Callable[[str, Any], int]:
    def check(key: str, value: Any) -> int:
        number = _whole(least)(key, value)
        if number is None:
            raise _refusal(key, value, f"a whole number, {least} or more")
        return number

    return check


def _overlays(key: str, value: Any) -> bool | int:
    if isinstance(value, int) and value >= 0:  # bool is an int
        return value
    raise _refusal(key, value, "true, false, or how many images to draw")


def _mapping(key: str, value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    if OmegaConf.is_dict(value):
        return {str(k): v for k, v in OmegaConf.to_container(value).items()}  # type: ignore[union-attr]
    raise _refusal(key, value, "a mapping such as {box_detections_per_img: 300}")


def _bench(key: str, value: Any) -> dict[str, Any]:
    return {
        "images": _required(1)(f"{key}.images", value["images"]),
        "repeats": _required(1)(f"{key}.repeats", value["repeats"]),
        "engines": _flag(f"{key}.engines", value["engines"]),
        "peers": _flag(f"{key}.peers", value["peers"]),
    }


def _tiles(key: str, value: Any) -> dict[str, Any]:
    if not OmegaConf.is_dict(value):
        raise _refusal(key, value, "a mapping", f" Say {key}.size=640, or {key}={{size: 640, overlap: 0.25}}.")
    for name in map(str, value):
        if name not in _TILES:
            raise ConfigError(f"{key}.{name}: {key} has no such setting.{nearest(name, _TILES)} It has {', '.join(_TILES)}.")
    return {name: check(f"{key}.{name}", value[name]) for name, check in _TILES.items()}


def _required_fraction(most: float) -> Callable[[str, Any], float]:
    def check(key: str, value: Any) -> float:
        number = _number(key, value, f"from 0 to {most:g}", most)
        if number is None:
            raise _refusal(key, value, f"a number from 0 to {most:g}")
        return number

    return check


def _one_of(*choices: str) -> Callable[[str, Any], str]:
    def check(key: str, value: Any) -> str:
        if value in choices:
            return str(value)
        raise _refusal(key, value, f"{', '.join(choices[:-1])} or {choices[-1]}", nearest(str(value), choices))

    return check


def _or_none(check: Callable[[str, Any], Any]) -> Callable[[str, Any], Any]:
    return lambda key, value: None if value is None else check(key, value)


def _batch_size(key: str, value: Any) -> int | str | None:
    if value == "auto" or value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= 1):
        return value
    raise _refusal(key, value, "a whole number, 1 or more, or auto")


def _retry(key: str, value: Any) -> str | None:
    if value in (None, "errors"):
        return value
    raise _refusal(key, value, "errors or null", nearest(str(value), ["errors"]))


def _refusal(key: str, value: Any, expected: str, hint: str = "") -> ConfigError:
    return ConfigError(f"{key}={value}: expected {expected}, got {type(value).__name__} {value!r}.{hint}")


_TILES: dict[str, Callable[[str, Any], Any]] = {
    "size": _whole(32),
    "overlap": _required_fraction(0.9),
    "merge": _one_of("nms", "nmm"),
    "iou": _required_fraction(1.0),
}
_CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "model": _text,
    "weights": _some_text,
    "categories": _text,
    "preprocess": _some_text,
    "channels": _one_of("rgb", "bgr"),
    "model_args": _mapping,
    "trust_code": _flag,
    "seed": _required(0),
    "input": _text,
    "output": _output,
    "limit": _whole(1),
    "max_pixels": _required(1),
    "retry": _retry,
    "changed": _one_of("refuse", "accept"),
    "classes": _names,
    "exclude": _names,
    "min_score": _min_score,
    "min_area": _area,
    "nms_iou": _fraction,
    "max_detections": _whole(1),
    "top_k": _whole(1),
    "tiles": _tiles,
    "flip": _flag,
    "batch_size": _batch_size,
    "shard_size": _required(1),
    "workers": _whole(1),
    "timeout": _required(1),
    "device": _some_text,
    "jpeg": _one_of("cpu", "gpu"),
    "precision": _or_none(_one_of("fp32", "bf16", "fp16")),
    "overlays": _overlays,
    "dry_run": _flag,
    "bench": _bench,
    "log_level": _one_of("debug", "info", "warning", "error"),
}
