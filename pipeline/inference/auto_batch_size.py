"""`batch_size=auto`: the batch that is fastest on this machine, among those that fit. Results do not depend on it."""

import logging
from collections.abc import Iterator, Sequence
from time import perf_counter

import torch
from torch import Tensor

from pipeline.core.errors import PipelineError
from pipeline.core.protocols import Engine, Source
from pipeline.core.types import Entry, InputError, Model
from pipeline.inference.forward import is_out_of_memory

log = logging.getLogger(__name__)
_LOOKED_AT = 64  # inputs whose headers are read, for a size worth trying
_SMALLEST, _LARGEST = 4, {"cpu": 32, "gpu": 512}  # a CPU's caches are full long before
_WORTH = 1.05  # a larger batch takes more memory: it must be so much faster


def find_fastest_batch_size(
    engine: Engine, model: Model, source: Source, entries: Sequence[Entry], max_pixels: int
) -> int:
    """Doubles the batch while that makes an input cheaper, on noise of the size of the largest of the first inputs.
    Ends at once where memory does: the largest batch tried before is chosen then."""
    pixels, size_hw = _largest_input(model, source, entries[:_LOOKED_AT], max_pixels)
    chosen, best = 1, _rate(engine, pixels, size_hw, 1)
    size = _SMALLEST
    largest = _LARGEST["cpu" if engine.device == "cpu" else "gpu"]
    while (
        size <= min(largest, model.max_batch or largest)
        and (rate := _rate(engine, pixels, size_hw, size)) > 0
    ):
        if rate > best * _WORTH:
            chosen, best = size, rate
        elif size >= 4 * chosen:  # two doublings without a gain
            break
        size *= 2
    log.info("batch_size=auto: %d (%.1f inputs/s in the forward pass)", chosen, best)
    return chosen


def _largest_input(
    model: Model, source: Source, entries: Sequence[Entry], max_pixels: int
) -> tuple[Tensor, tuple[int, int]]:
    sizes = sorted(
        _readable(source, entries, max_pixels),
        key=lambda size_hw: size_hw[0] * size_hw[1],
        reverse=True,
    )
    frames = () if source.clip_length is None else (source.clip_length,)
    failed: Exception | None = None
    for size_hw in [*sizes, (480, 640)]:
        try:
            return model.preprocess(
                torch.randint(0, 256, (*frames, 3, *size_hw), dtype=torch.uint8)
            ), size_hw
        except Exception as error:  # noqa: BLE001 - the model's own code; an image that it cannot take gets its own row later
            failed = error
    raise PipelineError(
        f"The model cannot take a picture of 640 x 480 pixels: {failed}"
    ) from failed


def _readable(
    source: Source, entries: Sequence[Entry], max_pixels: int
) -> Iterator[tuple[int, int]]:
    for entry in entries:
        try:
            yield source.read_size_hw(entry, max_pixels)
        except (InputError, OSError):
            continue


def _rate(engine: Engine, pixels: Tensor, size_hw: tuple[int, int], batch_size: int) -> float:
    """Inputs per second, the better of two after a first; 0 where the batch does not fit."""
    times = []
    try:
        for _ in range(3):
            begun = perf_counter()
            engine.forward([pixels] * batch_size, [size_hw] * batch_size)
            times.append(perf_counter() - begun)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return 0.0
    return batch_size / min(times[1:])
