"""What the user set, checked once. Everything behind this boundary can trust it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from pipeline.config import validators as checks
from pipeline.core.errors import ConfigError, suggest_nearest
from pipeline.core.package_files import find_resource

_NAMES = ("classes", "exclude")  # tuples, which JSON has not
PARTS = ("task", "source", "engine", "executor", "sink", "examples")


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
    backbone: str | None
    anchors: Mapping[str, Any]  # sizes, ratios
    input: str | None  # None: not given, and the task has no samples
    output: str
    limit: int | None
    max_pixels: int
    changed: str
    retry: str | None  # errors
    skip_duplicates: str | None  # bytes, near
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
    shard: Mapping[
        str, int
    ]  # index, count: this process does the shards whose id modulo count is index
    timeout: int  # seconds for one input to be read and decoded
    device: str
    jpeg: str  # cpu, gpu: what decodes JPEG files
    precision: str | None  # None: the engine's own
    overlays: bool | int
    dry_run: bool
    to: str | None  # onnx, pt2, torchscript: what export-model makes
    train: Mapping[str, Any]  # see conf/config.yaml
    bench: Mapping[str, Any]  # images, repeats, engines, peers
    log_level: str
    parts: Mapping[str, Any]

    @property
    def lowest_min_score(self) -> float:
        return (
            min(self.min_score.values()) if isinstance(self.min_score, Mapping) else self.min_score
        )

    def plain(self) -> dict[str, Any]:
        """As JSON can hold it; `from_plain` is the inverse."""
        return dict(vars(self))

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> "Settings":
        lists = {
            key: tuple(value) for key, value in plain.items() if key in _NAMES and value is not None
        }
        return cls(**{**plain, **lists})

    @classmethod
    def from_config(cls, cfg: DictConfig, task: str) -> "Settings":
        """`cfg` as Hydra composed it, `task` the name of the chosen file in conf/task. Raises ConfigError."""
        raw: Any = OmegaConf.to_container(cfg, resolve=False)
        try:
            values = {key: check(key, cfg[key]) for key, check in _CHECKS.items()}
            _fill_presets(values, raw["task"].get("presets", {}))
            # the parts' nodes refer to flat keys (root: ${input}); they must see the checked values
            complete = OmegaConf.create(
                {**{kind: raw.get(kind, {}) for kind in PARTS}, **_plain(values)}
            )
            nodes: Any = OmegaConf.to_container(complete, resolve=True)
        except OmegaConfBaseException as error:
            raise ConfigError(
                f"The configuration cannot be resolved: {str(error).splitlines()[0]}"
            ) from None
        return cls(**values, task=task, parts={kind: nodes[kind] for kind in PARTS})


def _fill_presets(values: dict[str, Any], presets: Mapping[str, Any]) -> None:
    sampled = values["input"] is None and presets["sample_model"] is not None
    if (
        values["model"] is None
    ):  # the samples' detector is for the samples: never used on a user's images unasked
        values["model"] = presets["sample_model" if sampled else "model"]
    if sampled:
        values["input"] = str(find_resource("data") / "samples")
    for key in ("min_score", "top_k"):
        if values[key] is None:
            values[key] = presets.get(key)
    if isinstance(values["min_score"], dict):
        values["min_score"] = {"default": presets["min_score"], **values["min_score"]}


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: list(value) if isinstance(value, tuple) else value for key, value in values.items()
    }


def _output(key: str, value: Any) -> str:
    text = checks.some_text(key, value)
    if not text.isprintable() and any("\ud800" <= letter <= "\udfff" for letter in text):
        raise checks.refusal(
            key, text.encode("utf-8", "backslashreplace").decode(), "a path that is valid UTF-8"
        )
    return text


def _overlays(key: str, value: Any) -> bool | int:
    if isinstance(value, int) and value >= 0:  # bool is an int
        return value
    raise checks.refusal(key, value, "true, false, or how many images to draw")


def _bench(key: str, value: Any) -> dict[str, Any]:
    return {
        "images": checks.required(1)(f"{key}.images", value["images"]),
        "repeats": checks.required(1)(f"{key}.repeats", value["repeats"]),
        "engines": checks.flag(f"{key}.engines", value["engines"]),
        "peers": checks.flag(f"{key}.peers", value["peers"]),
    }


def _below(checks_of: Mapping[str, checks.Check], example: str) -> checks.Check:
    """A mapping with a check for each of its keys. `example`: one of them with a value."""

    def check(key: str, value: Any) -> dict[str, Any]:
        if not OmegaConf.is_dict(value):
            raise checks.refusal(
                key,
                value,
                "a mapping",
                f" Say {key}.{example.replace(': ', '=')}, or {key}={{{example}}}.",
            )
        for name in map(str, value):
            if name not in checks_of:
                known = ", ".join(checks_of)
                raise ConfigError(
                    f"{key}.{name}: {key} has no such setting.{suggest_nearest(name, checks_of)} It has {known}."
                )
        return {name: one(f"{key}.{name}", value[name]) for name, one in checks_of.items()}

    return check


def _anchor_sizes(key: str, value: Any) -> list[list[float]] | None:
    """[[32], [64, 90]] as it stands; [32, 64] is one for each level."""
    if value is None:
        return None
    given = OmegaConf.to_container(value) if OmegaConf.is_list(value) else value
    levels = (
        [one if isinstance(one, list) else [one] for one in given]
        if isinstance(given, list)
        else []
    )
    if not levels or not all(
        level and all(_is_positive(size) for size in level) for level in levels
    ):
        raise checks.refusal(
            key, value, "pixels by level, such as [[32], [64], [128]] or [32, 64, 128]"
        )
    return [[float(size) for size in level] for level in levels]


def _anchor_ratios(key: str, value: Any) -> list[float] | None:
    if value is None:
        return None
    given = list(value) if OmegaConf.is_list(value) else []
    if not given or not all(_is_positive(ratio) for ratio in given):
        raise checks.refusal(key, value, "height / width, such as [0.5, 1, 2]")
    return [float(ratio) for ratio in given]


def _is_positive(value: Any) -> bool:
    return (
        isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < float("inf")
    )


def _validation(key: str, value: Any) -> float | str:
    return value if isinstance(value, str) and value else checks.required_fraction(0.9)(key, value)


def _learning_rate(key: str, value: Any) -> float | None:
    if value is None or (_is_positive(value) and value <= 10):
        return value
    raise checks.refusal(key, value, "a number above 0, at most 10")


def _augment(key: str, value: Any) -> list[str]:
    given = list(value) if OmegaConf.is_list(value) else [value]
    return [checks.one_of(*AUGMENTATIONS)(key, one) for one in given]


def _shard(key: str, value: Any) -> dict[str, int]:
    if not OmegaConf.is_dict(value):
        raise checks.refusal(key, value, "a mapping", f" Say {key}.index=3 {key}.count=16.")
    index, count = (
        checks.required(0)(f"{key}.index", value["index"]),
        checks.required(1)(f"{key}.count", value["count"]),
    )
    if index >= count:
        raise checks.refusal(f"{key}.index", index, f"from 0 to {count - 1}, less than {key}.count")
    return {"index": index, "count": count}


def _batch_size(key: str, value: Any) -> int | str | None:
    if (
        value == "auto"
        or value is None
        or (isinstance(value, int) and not isinstance(value, bool) and value >= 1)
    ):
        return value
    raise checks.refusal(key, value, "a whole number, 1 or more, or auto")


AUGMENTATIONS = ("flip", "crop", "colour")
_TILES: dict[str, checks.Check] = {
    "size": checks.whole(32),
    "overlap": checks.required_fraction(0.9),
    "merge": checks.one_of("nms", "nmm"),
    "iou": checks.required_fraction(1.0),
}
_TRAIN: dict[str, checks.Check] = {
    "data": checks.text,
    "images": checks.text,
    "validation": _validation,
    "epochs": checks.required(1),
    "batch_size": checks.required(1),
    "lr": _learning_rate,
    "weight_decay": checks.required_fraction(1.0),
    "warmup": checks.required_fraction(0.9),
    "ema": checks.required_fraction(0.99999),
    "backbone_weights": checks.some_text,
    "frozen_stages": checks.whole(0),
    "augment": _augment,
}
_CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "model": checks.text,
    "weights": checks.some_text,
    "categories": checks.text,
    "preprocess": checks.some_text,
    "channels": checks.one_of("rgb", "bgr"),
    "model_args": checks.mapping,
    "trust_code": checks.flag,
    "seed": checks.required(0),
    "backbone": checks.text,
    "anchors": _below({"sizes": _anchor_sizes, "ratios": _anchor_ratios}, "ratios: [0.5, 1, 2]"),
    "input": checks.text,
    "output": _output,
    "limit": checks.whole(1),
    "max_pixels": checks.required(1),
    "retry": checks.or_none(checks.one_of("errors")),
    "skip_duplicates": checks.or_none(checks.one_of("bytes", "near")),
    "changed": checks.one_of("refuse", "accept", "trust"),
    "classes": checks.names,
    "exclude": checks.names,
    "min_score": checks.min_score,
    "min_area": checks.area,
    "nms_iou": checks.fraction,
    "max_detections": checks.whole(1),
    "top_k": checks.whole(1),
    "tiles": _below(_TILES, "size: 640"),
    "flip": checks.flag,
    "batch_size": _batch_size,
    "shard_size": checks.required(1),
    "workers": checks.whole(1),
    "shard": _shard,
    "timeout": checks.required(1),
    "device": checks.some_text,
    "jpeg": checks.one_of("cpu", "gpu"),
    "precision": checks.or_none(checks.one_of("fp32", "bf16", "fp16")),
    "overlays": _overlays,
    "dry_run": checks.flag,
    "to": checks.or_none(checks.one_of("onnx", "pt2", "torchscript")),
    "train": _below(_TRAIN, "epochs: 20"),
    "bench": _bench,
    "log_level": checks.one_of("debug", "info", "warning", "error"),
}
