"""Compare the speed of the exported program and the original: alternating forward passes."""

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from time import perf_counter

import torch
from torch import Tensor, nn

from pipeline.core.text_tables import format_columns
from pipeline.inference.predictor import Predictor
from pipeline.runs.bench.measured_loops import measure
from pipeline.training.export_model.reference_network import SingleImageDetector, compute_output

_BUDGET_S = 3.0  # time for all measurements, unless a single round takes longer
_ROUNDS = 5
_CALLS = 50
_CALL_S = 0.5  # each call gets as many images as eager mode processes in this time


@dataclass(frozen=True)
class Speed:
    images_per_s: float  # median
    ratio: float  # median of the rate divided by the first contender's rate in the same round


def measure_forward_speeds(
    image: Tensor, eager: nn.Module, fp32: Predictor, exported: Predictor, most: int
) -> dict[str, Speed]:
    """Measure torchvision's own call, the pipeline's engine and the program on one image.

    Args:
        image: (3, H, W) uint8; it is repeated to fill a batch.
        eager: The original network.
        fp32: Predictor of the original.
        exported: Predictor of the program.
        most: Largest number of images in a batch.
    """
    size_hw = (image.shape[-2], image.shape[-1])
    given = exported.preprocess(image)  # float, as the program and the original take it
    detector = isinstance(eager, SingleImageDetector)
    started = perf_counter()
    compute_output(eager, given if detector else given[None])
    images = max(1, min(most, int(_CALL_S / (perf_counter() - started))))
    batch = torch.stack([given] * images) if not detector else given

    def published() -> None:
        with torch.inference_mode():
            for _ in range(images if detector else 1):
                eager(batch)

    def by_engine(predictor: Predictor, prepared: Tensor) -> None:
        predictor.engine.forward([prepared] * images, [size_hw] * images)

    calls: dict[str, Callable[[], object]] = {
        "eager": published,
        "this pipeline": partial(by_engine, fp32, fp32.preprocess(image)),
        "exported": partial(by_engine, exported, given),
    }
    return time_in_turns(calls, images)


def time_in_turns(calls: Mapping[str, Callable[[], object]], images: int) -> dict[str, Speed]:
    """Measure calls that process `images` images each. Ratios are relative to the first call.

    The calls alternate, so that a slow phase of the machine affects all of them.
    """
    for _ in range(2):  # TorchScript optimizes itself in its second call
        for call in calls.values():
            call()
    once = sum(measure(images, call).seconds for call in calls.values())
    rounds = min(_ROUNDS, max(2, int(_BUDGET_S / once)))
    again = min(_CALLS, max(1, int(_BUDGET_S / once / rounds)))

    def repeated(call: Callable[[], object]) -> float:
        return measure(images * again, lambda: [call() for _ in range(again)]).rate

    rates = [{name: repeated(call) for name, call in calls.items()} for _ in range(rounds)]
    first = next(iter(calls))
    return {
        name: Speed(
            images_per_s=statistics.median(rate[name] for rate in rates),
            ratio=statistics.median(rate[name] / rate[first] for rate in rates),
        )
        for name in calls
    }


def format_speeds(measured: Mapping[str, Speed]) -> str:
    rows = [
        (name, f"{rate.images_per_s:.1f}", f"{rate.ratio:.2f}") for name, rate in measured.items()
    ]
    return format_columns([("", "images/s", f"x {next(iter(measured))}"), *rows])
