"""Images are refused, grouped and admitted by the size in their headers."""

from pathlib import Path

import pytest
from torch import nn

from pipeline.core.types import Model, Shard, Status
from pipeline.inference.loader import Loader
from pipeline.inference.memory_plan import ImageLimits
from pipeline.inputs.sources.folder import Folder
from tests.helpers.pictures import picture


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    sizes = [(100, 100), (400, 2), (2, 400), (402, 2), (2, 402), (1000, 600), (90, 100)]
    for index, (width, height) in enumerate(sizes):
        picture(width, height).save(tmp_path / f"{index}.png")
    return tmp_path


def load(folder: Path, overlap: bool = False, batch_size: int = 2, **limits) -> list:
    source = Folder(str(folder))
    model = Model(nn.Identity(), lambda image: image, lambda size_hw: size_hw)
    loader = Loader(source, model, batch_size, 2, ImageLimits(10**6, **limits), overlap=overlap)
    return list(loader.load_batches([Shard(0, 0, tuple(source.entries()))]))


def errors(batches: list) -> dict[str, str]:
    items = [item for batch in batches for item in batch.items]
    assert len(items) == 7
    assert {item.status for item in items} <= {Status.OK, Status.TOO_LARGE}
    return {item.key: item.error for item in items if item.error}


def test_an_image_thinner_than_max_aspect_is_too_large(folder: Path) -> None:
    found = errors(load(folder))
    assert sorted(found) == ["3.png", "4.png"]
    assert "402x2 pixels" in found["3.png"] and "max_aspect=200." in found["3.png"]
    assert errors(load(folder, max_aspect=201.0)) == {}


@pytest.mark.parametrize("overlap", [False, True])
def test_an_image_that_does_not_fit_into_memory_is_too_large(folder: Path, overlap: bool) -> None:
    found = errors(load(folder, overlap, max_aspect=1000.0, memory=24_000_000))
    # 600,000 pixels take 16.8 MB to decode
    assert list(found) == ["5.png"]
    assert "1000x600 pixels" in found["5.png"]
    assert "memory=24 MB; set a larger memory=" in found["5.png"]


@pytest.mark.parametrize("overlap", [False, True])
def test_without_a_setting_no_image_is_refused_however_small_the_machine(
    folder: Path, overlap: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run() -> list:
        batches = load(folder, overlap, max_aspect=1000.0)
        return sorted(one.item.image_id for batch in batches for one in batch.inputs)

    expected = run()
    monkeypatch.setattr("pipeline.inference.memory_plan.measure_available_memory", lambda: 1000.0)
    assert run() == expected == list(range(7))


def test_a_batch_is_cut_where_its_forward_pass_would_not_fit(tmp_path: Path) -> None:
    for index in range(7):
        picture(100, 100).save(tmp_path / f"{index}.png")
    # A pass takes 64 times the input of 120 kB.
    batches = load(tmp_path, batch_size=4, memory=2 * 2 * 64 * 120_000)
    assert [len(batch.inputs) for batch in batches] == [2, 2, 2, 1]
    assert [len(batch.inputs) for batch in load(tmp_path, batch_size=4)] == [4, 3]
