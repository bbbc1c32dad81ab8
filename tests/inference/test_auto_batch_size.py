"""`batch_size=auto` chooses the fastest batch size that fits into memory."""

import time
from collections.abc import Iterator

import pytest
import torch
from torch import nn

from pipeline.core.errors import PipelineError
from pipeline.core.types import Entry, InputError, Model, Status
from pipeline.inference.auto_batch_size import find_fastest_batch_size
from pipeline.inference.memory_plan import ImageLimits

ENTRIES = [Entry("a.jpg", 1, 1), Entry("bad.jpg", 1, 1), Entry("large.jpg", 1, 1)]


class Source:
    clip_length = None

    def read_size_hw(self, entry: Entry, max_pixels: int) -> tuple[int, int]:
        if entry.key == "bad.jpg":
            raise InputError(Status.CORRUPT, "no header")
        return (90, 60) if entry.key == "large.jpg" else (30, 20)


class Engine:
    """An engine whose batch takes `seconds(batch)`; None means that it does not fit."""

    def __init__(self, seconds, device: str = "cuda") -> None:
        self.seconds, self.device, self.asked = seconds, device, []

    def forward(self, inputs: list, sizes_hw: list) -> list:
        self.asked.append((len(inputs), tuple(inputs[0].shape), sizes_hw[0]))
        spent = self.seconds(len(inputs))
        if spent is None:
            raise torch.OutOfMemoryError("no room")
        CLOCK[0] += spent
        return [{}] * len(inputs)


CLOCK = [0.0]


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("pipeline.inference.auto_batch_size.perf_counter", lambda: CLOCK[0])
    yield


def chosen(engine: Engine, **of_model) -> int:
    model = Model(nn.Identity(), lambda image: image, lambda size: None, **of_model)
    return find_fastest_batch_size(engine, model, Source(), ENTRIES, ImageLimits(10**8))


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (lambda n: 1.0 * n, 1),  # a batch gains nothing
        (lambda n: 1.0 + 0.5 * n, 32),  # until a doubling is worth less than 5 %
        (lambda n: max(1.0, n / 16), 16),
        (lambda n: 1.0 if n <= 8 else 0.2 * n, 8),  # caches
        (lambda n: 1.0 if n <= 32 else None, 32),  # memory
    ],
)
def test_the_fastest_that_fits(seconds, expected: int) -> None:
    assert chosen(Engine(seconds)) == expected


def test_it_is_tried_on_the_largest_of_the_first_images() -> None:
    engine = Engine(float)
    chosen(engine)
    assert {one[1:] for one in engine.asked} == {((3, 90, 60), (90, 60))}


def test_a_model_may_allow_no_more() -> None:
    assert chosen(Engine(lambda n: 1.0), max_batch=8) == 8


def test_on_a_cpu_the_search_ends_early() -> None:
    assert chosen(Engine(lambda n: 1.0, "cpu")) == 32 and chosen(Engine(lambda n: 1.0)) == 512


def test_another_error_is_not_taken_for_memory() -> None:
    class Broken(Engine):
        def forward(self, inputs: list, sizes_hw: list) -> list:
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        chosen(Broken(lambda n: 1.0))


def test_a_model_that_takes_no_picture_at_all_is_said() -> None:
    def fails(image: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("never")

    model = Model(nn.Identity(), fails, lambda size: None)
    with pytest.raises(PipelineError, match="cannot take a picture of 640 x 480 pixels: never"):
        find_fastest_batch_size(Engine(lambda n: 1.0), model, Source(), ENTRIES, ImageLimits(10**8))


def test_the_clock_is_a_fake_one() -> None:
    assert time.perf_counter() != CLOCK[0]
