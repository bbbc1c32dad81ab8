"""Measure which batch size is fastest on this machine (`batch_size=auto`).

Results do not depend on the batch size.
"""

import logging
from collections.abc import Iterator, Sequence
from time import perf_counter

import torch
from torch import Tensor

from pipeline.core.errors import PipelineError
from pipeline.core.protocols import Engine, Source
from pipeline.core.types import Entry, InputError, Item, Model, View
from pipeline.inference.forward import is_out_of_memory
from pipeline.inference.memory_plan import ImageLimits, MemoryPlan

log = logging.getLogger(__name__)
_SAMPLED_HEADERS = 64
_SMALLEST = 4  # the first size tried after 1
_LARGEST = {"cpu": 32, "gpu": 512}  # larger batches do not fit into a CPU's caches
_LEAST_SPEEDUP = 1.05  # a larger batch takes more memory, so it must be this much faster
_FALLBACK_HW = (480, 640)


def find_fastest_batch_size(
    engine: Engine, model: Model, source: Source, entries: Sequence[Entry], limits: ImageLimits
) -> int:
    """Return the batch size with the most inputs per second in the forward pass.

    Doubles the batch size while this makes inference faster, and stops at the first batch that does
    not fit into memory. The inputs are noise, as large as the largest of the first real inputs.
    """
    plan = MemoryPlan(limits, model, engine.device != "cpu", source.clip_length)
    pixels, size_hw = _make_largest_input(model, source, entries[:_SAMPLED_HEADERS], plan)
    best_size, best_rate = 1, _measure_rate(engine, pixels, size_hw, 1)
    largest = _LARGEST["cpu" if engine.device == "cpu" else "gpu"]
    fitting = plan.most_forward / max(1, plan.estimate_forward(size_hw))
    largest = int(min(largest, model.max_batch or largest, max(1, fitting)))

    size = _SMALLEST
    while size <= largest and (rate := _measure_rate(engine, pixels, size_hw, size)) > 0:
        if rate > best_rate * _LEAST_SPEEDUP:
            best_size, best_rate = size, rate
        elif size >= 4 * best_size:  # two doublings without a gain
            break
        size *= 2

    log.info("batch_size=auto: %d (%.1f inputs/s in the forward pass)", best_size, best_rate)
    return best_size


def _make_largest_input(
    model: Model, source: Source, entries: Sequence[Entry], plan: MemoryPlan
) -> tuple[Tensor, tuple[int, int]]:
    """Make a model input from noise, of the largest size that the model accepts.

    Returns:
        The input, and the size (height, width) of the noise.
    """
    sizes = sorted(
        _read_sizes(source, entries, plan),
        key=lambda size_hw: size_hw[0] * size_hw[1],
        reverse=True,
    )
    frames = () if source.clip_length is None else (source.clip_length,)
    last_error: Exception | None = None
    for size_hw in [*sizes, _FALLBACK_HW]:
        try:
            noise = torch.randint(0, 256, (*frames, 3, *size_hw), dtype=torch.uint8)
            return model.preprocess(noise), size_hw
        except Exception as error:  # noqa: BLE001 - the model's own code; the run reports the image
            last_error = error
    raise PipelineError(
        f"The model cannot take a picture of 640 x 480 pixels: {last_error}"
    ) from last_error


def _read_sizes(
    source: Source, entries: Sequence[Entry], plan: MemoryPlan
) -> Iterator[tuple[int, int]]:
    """Yield the sizes of the inputs whose headers can be read and that are not refused."""
    for entry in entries:
        try:
            size_hw = source.read_size_hw(entry, plan.limits.max_pixels)
        except (InputError, OSError):
            continue
        whole = View((0, 0, size_hw[1], size_hw[0]))
        item = Item(0, entry.key, size_hw, entry=entry, views=(whole,))
        if not plan.limits.find_thinness(size_hw) and not plan.refuse(item):
            yield size_hw


def _measure_rate(
    engine: Engine, pixels: Tensor, size_hw: tuple[int, int], batch_size: int
) -> float:
    """Return inputs per second, or 0 if the batch does not fit into memory.

    Takes the faster of two passes after a first pass that warms up.
    """
    seconds = []
    try:
        for _ in range(3):
            start = perf_counter()
            engine.forward([pixels] * batch_size, [size_hw] * batch_size)
            seconds.append(perf_counter() - start)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return 0.0
    return batch_size / min(seconds[1:])
