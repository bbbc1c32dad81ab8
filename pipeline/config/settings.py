"""What the user set, checked once. Everything behind this boundary can trust it."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from pipeline.config.validators import (
    Check,
    allow_none,
    build_refusal,
    check_area,
    check_choice,
    check_flag,
    check_fraction,
    check_integer,
    check_mapping,
    check_min_score,
    check_names,
    check_optional_fraction,
    check_optional_integer,
    check_optional_text,
    check_text,
)
from pipeline.core.errors import ConfigError, suggest_nearest
from pipeline.core.package_files import find_resource

_NAMES = ("classes", "exclude")  # tuples, which JSON has not
COMPONENT_KINDS = ("task", "source", "engine", "executor", "sink", "examples")


@dataclass(frozen=True)
class AnchorSettings:
    """Anchor boxes of a detector. None: those of its builder."""

    sizes: list[list[float]] | None = None
    ratios: list[float] | None = None


@dataclass(frozen=True)
class TileSettings:
    """How a large image is cut into overlapping tiles."""

    size: int | None = None  # None: no tiles
    overlap: float = 0.2
    merge: str = "nms"
    iou: float = 0.5


@dataclass(frozen=True)
class ShardSettings:
    """The shards of this process: those whose number modulo `count` is `index`."""

    index: int = 0
    count: int = 1


@dataclass(frozen=True)
class TrainSettings:
    """What and how `train` learns; see conf/config.yaml."""

    data: str | None
    images: str | None
    validation: float | str
    epochs: int
    batch_size: int
    lr: float | None
    weight_decay: float
    warmup: float
    ema: float
    backbone_weights: str
    frozen_stages: int | None
    augment: list[str]


@dataclass(frozen=True)
class BenchSettings:
    """What `bench` measures."""

    images: int
    repeats: int
    engines: bool
    peers: bool


_NESTED: dict[str, Any] = {
    "anchors": AnchorSettings,
    "tiles": TileSettings,
    "shard": ShardSettings,
    "train": TrainSettings,
    "bench": BenchSettings,
}


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
    anchors: AnchorSettings
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
    tiles: TileSettings
    flip: bool
    batch_size: int | str | None  # auto: measured; None: the task's for the device
    shard_size: int
    workers: int | None
    shard: ShardSettings
    timeout: int  # seconds for one input to be read and decoded
    device: str
    jpeg: str  # cpu, gpu: what decodes JPEG files
    precision: str | None  # None: the engine's own
    overlays: bool | int
    dry_run: bool
    to: str | None  # onnx, pt2, torchscript: what export-model makes
    train: TrainSettings
    bench: BenchSettings
    log_level: str
    components: Mapping[str, Any]

    @property
    def lowest_min_score(self) -> float:
        return (
            min(self.min_score.values()) if isinstance(self.min_score, Mapping) else self.min_score
        )

    def to_plain(self) -> dict[str, Any]:
        """As JSON can hold it; `from_plain` is the inverse."""
        plain = asdict(self)
        # the name that the records of earlier runs have for it
        plain["parts"] = plain.pop("components")
        return plain

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> "Settings":
        lists = {
            key: tuple(value) for key, value in plain.items() if key in _NAMES and value is not None
        }
        nested = {key: kind(**plain[key]) for key, kind in _NESTED.items()}
        flat = {key: value for key, value in plain.items() if key != "parts"}
        return cls(**{**flat, **lists, **nested}, components=plain["parts"])

    @classmethod
    def from_config(cls, cfg: DictConfig, task: str) -> "Settings":
        """`cfg` as Hydra composed it, `task` the name of the chosen file in conf/task. Raises ConfigError."""
        raw: Any = OmegaConf.to_container(cfg, resolve=False)
        try:
            values = {key: check(key, cfg[key]) for key, check in _CHECKS.items()}
            _fill_presets(values, raw["task"].get("presets", {}))
            # the parts' nodes refer to flat keys (root: ${input}); they must see the checked values
            complete = OmegaConf.create(
                {**{kind: raw.get(kind, {}) for kind in COMPONENT_KINDS}, **_plain(values)}
            )
            nodes: Any = OmegaConf.to_container(complete, resolve=True)
        except OmegaConfBaseException as error:
            raise ConfigError(
                f"The configuration cannot be resolved: {str(error).splitlines()[0]}"
            ) from None
        values |= {key: kind(**values[key]) for key, kind in _NESTED.items()}
        return cls(**values, task=task, components={kind: nodes[kind] for kind in COMPONENT_KINDS})


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
    text = check_text(key, value)
    if not text.isprintable() and any("\ud800" <= letter <= "\udfff" for letter in text):
        raise build_refusal(
            key, text.encode("utf-8", "backslashreplace").decode(), "a path that is valid UTF-8"
        )
    return text


def _overlays(key: str, value: Any) -> bool | int:
    if isinstance(value, int) and value >= 0:  # bool is an int
        return value
    raise build_refusal(key, value, "true, false, or how many images to draw")


def _bench(key: str, value: Any) -> dict[str, Any]:
    return {
        "images": check_integer(1)(f"{key}.images", value["images"]),
        "repeats": check_integer(1)(f"{key}.repeats", value["repeats"]),
        "engines": check_flag(f"{key}.engines", value["engines"]),
        "peers": check_flag(f"{key}.peers", value["peers"]),
    }


def _below(checks_of: Mapping[str, Check], example: str) -> Check:
    """A mapping with a check for each of its keys. `example`: one of them with a value."""

    def check(key: str, value: Any) -> dict[str, Any]:
        if not OmegaConf.is_dict(value):
            raise build_refusal(
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
        raise build_refusal(
            key, value, "pixels by level, such as [[32], [64], [128]] or [32, 64, 128]"
        )
    return [[float(size) for size in level] for level in levels]


def _anchor_ratios(key: str, value: Any) -> list[float] | None:
    if value is None:
        return None
    given = list(value) if OmegaConf.is_list(value) else []
    if not given or not all(_is_positive(ratio) for ratio in given):
        raise build_refusal(key, value, "height / width, such as [0.5, 1, 2]")
    return [float(ratio) for ratio in given]


def _is_positive(value: Any) -> bool:
    return (
        isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < float("inf")
    )


def _validation(key: str, value: Any) -> float | str:
    return value if isinstance(value, str) and value else check_fraction(0.9)(key, value)


def _learning_rate(key: str, value: Any) -> float | None:
    if value is None or (_is_positive(value) and value <= 10):
        return value
    raise build_refusal(key, value, "a number above 0, at most 10")


def _augment(key: str, value: Any) -> list[str]:
    given = list(value) if OmegaConf.is_list(value) else [value]
    return [check_choice(*AUGMENTATIONS)(key, one) for one in given]


def _shard(key: str, value: Any) -> dict[str, int]:
    if not OmegaConf.is_dict(value):
        raise build_refusal(key, value, "a mapping", f" Say {key}.index=3 {key}.count=16.")
    index, count = (
        check_integer(0)(f"{key}.index", value["index"]),
        check_integer(1)(f"{key}.count", value["count"]),
    )
    if index >= count:
        raise build_refusal(f"{key}.index", index, f"from 0 to {count - 1}, less than {key}.count")
    return {"index": index, "count": count}


def _batch_size(key: str, value: Any) -> int | str | None:
    if (
        value == "auto"
        or value is None
        or (isinstance(value, int) and not isinstance(value, bool) and value >= 1)
    ):
        return value
    raise build_refusal(key, value, "a whole number, 1 or more, or auto")


AUGMENTATIONS = ("flip", "crop", "colour")
_TILES: dict[str, Check] = {
    "size": check_optional_integer(32),
    "overlap": check_fraction(0.9),
    "merge": check_choice("nms", "nmm"),
    "iou": check_fraction(1.0),
}
_TRAIN: dict[str, Check] = {
    "data": check_optional_text,
    "images": check_optional_text,
    "validation": _validation,
    "epochs": check_integer(1),
    "batch_size": check_integer(1),
    "lr": _learning_rate,
    "weight_decay": check_fraction(1.0),
    "warmup": check_fraction(0.9),
    "ema": check_fraction(0.99999),
    "backbone_weights": check_text,
    "frozen_stages": check_optional_integer(0),
    "augment": _augment,
}
_CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "model": check_optional_text,
    "weights": check_text,
    "categories": check_optional_text,
    "preprocess": check_text,
    "channels": check_choice("rgb", "bgr"),
    "model_args": check_mapping,
    "trust_code": check_flag,
    "seed": check_integer(0),
    "backbone": check_optional_text,
    "anchors": _below({"sizes": _anchor_sizes, "ratios": _anchor_ratios}, "ratios: [0.5, 1, 2]"),
    "input": check_optional_text,
    "output": _output,
    "limit": check_optional_integer(1),
    "max_pixels": check_integer(1),
    "retry": allow_none(check_choice("errors")),
    "skip_duplicates": allow_none(check_choice("bytes", "near")),
    "changed": check_choice("refuse", "accept", "trust"),
    "classes": check_names,
    "exclude": check_names,
    "min_score": check_min_score,
    "min_area": check_area,
    "nms_iou": check_optional_fraction,
    "max_detections": check_optional_integer(1),
    "top_k": check_optional_integer(1),
    "tiles": _below(_TILES, "size: 640"),
    "flip": check_flag,
    "batch_size": _batch_size,
    "shard_size": check_integer(1),
    "workers": check_optional_integer(1),
    "shard": _shard,
    "timeout": check_integer(1),
    "device": check_text,
    "jpeg": check_choice("cpu", "gpu"),
    "precision": allow_none(check_choice("fp32", "bf16", "fp16")),
    "overlays": _overlays,
    "dry_run": check_flag,
    "to": allow_none(check_choice("onnx", "pt2", "torchscript")),
    "train": _below(_TRAIN, "epochs: 20"),
    "bench": _bench,
    "log_level": check_choice("debug", "info", "warning", "error"),
}
