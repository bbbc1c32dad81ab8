"""Settings that only one or two verbs use: training, model export and the benchmark."""

from dataclasses import dataclass
from typing import Any

from pipeline.config.declare import nested_settings, setting
from pipeline.config.validators import (
    allow_none,
    build_refusal,
    check_choice,
    check_flag,
    check_fraction,
    check_integer,
    check_optional_integer,
    check_optional_text,
    check_text,
    declare_kind,
    is_list,
    is_positive,
)
from pipeline.config.word_grammar import Kind

AUGMENTATIONS = ("flip", "crop", "colour")


@declare_kind(Kind.TEXT_OR_NUMBER)
def check_validation(key: str, value: Any) -> float | str:
    """Accept a fraction of the data or a path."""
    return value if isinstance(value, str) and value else check_fraction(0.9)(key, value)


def check_learning_rate(key: str, value: Any) -> float | None:
    if value is None or (is_positive(value) and value <= 10):
        return value
    raise build_refusal(key, value, "a number above 0, at most 10")


def check_augmentations(key: str, value: Any) -> list[str]:
    names = list(value) if is_list(value) else [value]
    return [check_choice(*AUGMENTATIONS)(key, name) for name in names]


@dataclass(frozen=True)
class TrainSettings:
    """Training: data and recipe."""

    data: str | None = setting(
        check_optional_text,
        None,
        "COCO's JSON, YOLO's data.yaml, a VOC folder, or a folder with a sub-folder for each class",
    )
    images: str | None = setting(
        check_optional_text, None, "the folder with the images of COCO's JSON; null: beside it"
    )
    validation: float | str = setting(
        check_validation,
        0.1,
        "the fraction of the data to validate with, drawn with `seed`; or a path of other data, as "
        "for train.data",
    )
    epochs: int = setting(check_integer(1), 20, "passes over the training data")
    batch_size: int = setting(check_integer(1), 8, "images for each step")
    lr: float | None = setting(
        check_learning_rate,
        None,
        "highest learning rate, after the warm-up; null: 0.0002 for pretrained weights and R-CNNs, "
        "else 0.002",
    )
    weight_decay: float = setting(check_fraction(1.0), 0.05, "weight decay of AdamW")
    warmup: float = setting(
        check_fraction(0.9),
        0.05,
        "fraction of all steps in which the learning rate rises; then it falls as a cosine",
    )
    ema: float = setting(
        check_fraction(0.99999),
        0.998,
        "the saved weights are an exponential moving average over about 1 / (1 - ema) steps",
    )
    backbone_weights: str = setting(
        check_text, "DEFAULT", "for model=fasterrcnn: DEFAULT, a name, random, or a file"
    )
    frozen_stages: int | None = setting(
        check_optional_integer(0),
        None,
        "stages of the backbone that are not trained, from 0 (none) to 5 (all); null: 2, but 0 for "
        "random weights and ViTs",
    )
    augment: list[str] = setting(
        check_augmentations,
        ["flip", "crop", "colour"],
        "random changes of the images; [] for none; leave out flip if classes differ by left and "
        "right",
    )


@dataclass(frozen=True)
class TrainingSettings:
    """Training."""

    train: TrainSettings = nested_settings(TrainSettings, "epochs: 20")


@dataclass(frozen=True)
class ModelExportSettings:
    """Exporting a model."""

    to: str | None = setting(
        allow_none(check_choice("onnx", "pt2", "torchscript")),
        None,
        "format of the program: onnx, pt2, torchscript",
    )


@dataclass(frozen=True)
class BenchSettings:
    """Measurements of `bench`."""

    images: int = setting(
        check_integer(1),
        512,
        "images in each measurement; if the input has fewer readable images, they are repeated",
    )
    repeats: int = setting(
        check_integer(1), 5, "repetitions of each measurement; medians are printed"
    )
    engines: bool = setting(
        check_flag,
        True,
        "also measure eager fp32, compiled fp32 and engine=fast, beside the chosen engine",
    )
    peers: bool = setting(check_flag, False, "also measure a Ray Data job, if ray is installed")


@dataclass(frozen=True)
class BenchmarkSettings:
    """Benchmark."""

    bench: BenchSettings = nested_settings(BenchSettings, "images: 512")
