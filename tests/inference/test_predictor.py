"""The predictor: too little memory for a batch, failures of single images, memory of batches."""

import logging
import weakref
from pathlib import Path

import pytest
import torch
from torch import nn

from pipeline.config.instantiate import instantiate
from pipeline.core.types import Failure, Item, Model, Shard, Status
from pipeline.inference.loader import Loader
from pipeline.inference.memory_plan import ImageLimits
from pipeline.inference.predictor import Predictor
from pipeline.inputs.sources.folder import Folder
from pipeline.ops.filters import Filters, make_score_thresholds
from tests.faults.tight import Tight
from tests.helpers.pictures import spec_of
from tests.helpers.runs import settings_for

SPEC = spec_of("__background__", "dog")


def make_predictor(source: Folder, engine: Tight, batch_size: int, side: int = 8) -> Predictor:
    model = Model(nn.Identity(), lambda image: torch.zeros(3, side, side), lambda size_hw: None)
    task = instantiate(settings_for().components["task"], spec=SPEC)
    keep = Filters(make_score_thresholds(SPEC.categories, None, None, 0.0), None, None, None).apply
    return Predictor(Loader(source, model, batch_size, 2, ImageLimits(10**8)), engine, task, keep)  # type: ignore[arg-type]


def predict(folder: Path, engine: Tight, batch_size: int) -> dict[str, Status]:
    source = Folder(str(folder))
    predictor = make_predictor(source, engine, batch_size)
    predicted = predictor.predict([Shard(0, 0, tuple(source.entries()))])
    return {item.key: item.status for _, finished in predicted for item, _ in finished}


def test_what_did_not_fit_is_not_tried_again(
    mixed_images: Path, caplog: pytest.LogCaptureFixture
) -> None:
    engine = Tight(room=2 * 3 * 8 * 8)
    with caplog.at_level(logging.WARNING):
        assert set(predict(mixed_images, engine, batch_size=3).values()) == {Status.OK}
    assert engine.sizes == [3, 1, 1, 1, 1, 1, 1] or engine.sizes == [3, 1, 2, 1, 1, 1], engine.sizes
    assert caplog.text.count("Not enough memory for a batch of 3: going on with 1") == 1


def test_an_image_too_large_alone_is_a_row_and_the_others_go_on(mixed_images: Path) -> None:
    engine = Tight(room=3 * 8 * 8 - 1)
    with pytest.raises(Exception, match="fails on every image"):  # not even the grey picture fits
        predict(mixed_images, engine, batch_size=2)


def test_a_batch_that_fits_is_left_whole(mixed_images: Path) -> None:
    engine = Tight(room=10**6)
    assert len(predict(mixed_images, engine, batch_size=3)) == 6 and engine.sizes == [3, 3]


class Remembering(Tight):
    """An engine that has room for everything, and remembers its inputs without keeping them."""

    def __init__(self) -> None:
        super().__init__(room=10**9)
        self.seen: list[weakref.ref] = []

    def forward(self, inputs: list, sizes_hw: list) -> list:
        self.seen += [weakref.ref(pixels) for pixels in inputs]
        return super().forward(inputs, sizes_hw)


def test_a_batch_is_freed_before_its_outputs_go_to_the_writer(mixed_images: Path) -> None:
    source, engine = Folder(str(mixed_images)), Remembering()
    predictor = make_predictor(source, engine, batch_size=2)
    for _ in predictor.predict([Shard(0, 0, tuple(source.entries()))]):
        assert engine.seen and all(pixels() is None for pixels in engine.seen)


def test_a_failure_becomes_one_short_line() -> None:
    message = "a\n  very\tlong " + "m" * 600
    item = Item(3, "a.jpg").with_failure(Failure(Status.CORRUPT, message, (20, 30)))
    assert item.error == ("a very long " + "m" * 600)[:500]
    assert (item.status, item.size_hw, item.key) == (Status.CORRUPT, (20, 30), "a.jpg")
    assert Item(3, "a.jpg", (4, 5)).with_failure(
        Failure(Status.MODEL_ERROR, "", (20, 30))
    ).size_hw == (4, 5)
