"""The model at work: memory that is too short for a batch, once and from then on."""

import logging
from pathlib import Path

import pytest
import torch
from torch import nn

from pipeline.config.instantiate import instantiate
from pipeline.core.types import Model, Shard, Status
from pipeline.inference.loader import Loader
from pipeline.inference.predictor import Predictor
from pipeline.inputs.sources.folder import Folder
from pipeline.ops.filters import Filters, make_score_thresholds
from tests.faults.tight import Tight
from tests.helpers.pictures import spec_of
from tests.helpers.runs import settings_for

SPEC = spec_of("__background__", "dog")


def predict(folder: Path, engine: Tight, batch_size: int, side: int = 8) -> dict[str, Status]:
    source = Folder(str(folder))
    model = Model(nn.Identity(), lambda image: torch.zeros(3, side, side), lambda size_hw: None)
    task = instantiate(settings_for().components["task"], spec=SPEC)
    keep = Filters(make_score_thresholds(SPEC.categories, None, None, 0.0), None, None, None).apply
    predictor = Predictor(Loader(source, model, batch_size, 2, 10**8), engine, task, keep)  # type: ignore[arg-type]
    answered = predictor.predict([Shard(0, 0, tuple(source.entries()))])
    return {item.key: item.status for _, batch in answered for item, _ in batch}


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
