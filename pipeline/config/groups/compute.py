"""Settings of the computation, and of what is written and shown."""

from dataclasses import dataclass
from typing import Any

from pipeline.config.declare import nested_settings, setting
from pipeline.config.validators import (
    allow_none,
    build_refusal,
    check_bytes,
    check_choice,
    check_flag,
    check_integer,
    check_optional_integer,
    check_text,
)


def check_batch_size(key: str, value: Any) -> int | str | None:
    is_integer = isinstance(value, int) and not isinstance(value, bool)
    if value is None or value == "auto" or (is_integer and value >= 1):
        return value
    raise build_refusal(key, value, "a whole number, 1 or more, or auto")


def check_overlays(key: str, value: Any) -> bool | int:
    if isinstance(value, int) and value >= 0:  # True and False are integers
        return value
    raise build_refusal(key, value, "true, false, or how many images to draw")


@dataclass(frozen=True)
class ShardSettings:
    """The shards that this process computes: those whose number modulo `count` is `index`."""

    index: int = setting(
        check_integer(0),
        0,
        "several processes can share a run, also on several machines; this one computes the shards "
        "whose number modulo shard.count is shard.index",
    )
    count: int = setting(check_integer(1), 1, "number of processes that share the run")

    def __post_init__(self) -> None:
        if self.index >= self.count:
            expected = f"from 0 to {self.count - 1}, less than shard.count"
            raise build_refusal("shard.index", self.index, expected)


@dataclass(frozen=True)
class ComputeSettings:
    """Computation."""

    batch_size: int | str | None = setting(
        check_batch_size,
        None,
        "images for each forward pass; auto: measured at the start; null: the task's default for "
        "the device; results are the same for every size",
    )
    shard_size: int = setting(
        check_integer(1),
        256,
        "images that are committed together; an interrupted run repeats at most this many",
    )
    shard: ShardSettings = nested_settings(ShardSettings, "index: 3")
    workers: int | None = setting(
        check_optional_integer(1), None, "decoding threads; null: chosen from the number of cores"
    )
    timeout: int = setting(
        check_integer(1),
        120,
        "seconds to read and decode one input, and again for its forward pass; an input that takes "
        "longer gets the status timeout",
    )
    memory: int | None = setting(
        allow_none(check_bytes),
        None,
        "memory for the images that one process has in work, for example 2GB; an image that does "
        "not fit gets the status too_large; null: a quarter of the memory of the machine or its "
        "container, and an image that does not fit is processed alone",
    )
    device: str = setting(check_text, "auto", "auto, cpu, cuda, cuda:1, mps")
    jpeg: str = setting(
        check_choice("cpu", "gpu"),
        "cpu",
        "gpu: the GPU decodes JPEG files (nvJPEG), which helps if the GPU waits for decoding",
    )
    precision: str | None = setting(
        allow_none(check_choice("fp32", "bf16", "fp16")),
        None,
        "fp32, bf16 or fp16; null: chosen by the engine; another precision leads to another run "
        "folder",
    )


@dataclass(frozen=True)
class OutputSettings:
    """Output."""

    overlays: bool | int = setting(
        check_overlays, True, "draw predictions on the images: true, false, or only the first N"
    )
    dry_run: bool = setting(check_flag, False, "print the plan and stop")
    log_level: str = setting(
        check_choice("debug", "info", "warning", "error"), "info", "debug, info, warning, error"
    )
