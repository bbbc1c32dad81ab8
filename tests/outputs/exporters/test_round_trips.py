"""A real run and a large one, exported to every format and read again.

The boxes are the same, and the export takes the memory of one shard.
"""

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline.results.commands.export import list_formats
from pipeline.run import run
from tests.helpers.made_runs import Row, box, made_run
from tests.helpers.paths import shared
from tests.helpers.pictures import picture
from tests.helpers.runs import read, settings_for
from tests.outputs.exporters.readers import READERS, Found

Export = Callable[..., Path]
BOX = ("x_min", "y_min", "x_max", "y_max")


def list_boxes(run: Path) -> list[Found]:
    rows = read(run, "predictions").select(["key", "class_name", *BOX]).to_pylist()
    return [(row["key"], row["class_name"], tuple(row[side] for side in BOX)) for row in rows]


def assert_same(expected: list[Found], found: list[Found]) -> None:
    assert len(found) == len(expected) > 1000
    first, second = (
        sorted(rows, key=lambda row: row[0]) for rows in (expected, found)
    )  # boxes of one image keep their order
    pairs = zip(first, second, strict=True)
    # Not the lists: pytest would compute their difference for many minutes.
    assert next((pair for pair in pairs if pair[0][:2] != pair[1][:2]), None) is None
    assert (
        np.abs(np.array([row[2] for row in first]) - np.array([row[2] for row in second])).max()
        < 0.01
    )


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("outputs")
    model = (
        "task=detect",
        "model=torchscript",
        f"weights={shared('weights/d2go_coco.pt')}",
        "categories=coco",
    )
    more = (
        "channels=bgr",
        "trust_code=true",
        f"input={shared('data/coco128/images')}",
        "overlays=false",
        "log_level=error",
    )
    run(settings_for(*model, *more, f"output={folder}", "shard_size=50", "min_score=0.05"))
    return (folder / "latest").resolve()


@pytest.mark.long
@pytest.mark.parametrize("to", list_formats())
def test_real_boxes_come_back(to: str, photographs: Path, export: Export) -> None:
    assert_same(list_boxes(photographs), list(READERS[to](export(photographs, to, "images=link"))))


@pytest.fixture(scope="module")
def many_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20,000 boxes on 200 images, in 40 shards."""
    folder = tmp_path_factory.mktemp("large")
    images, rng = folder / "photos", np.random.default_rng(0)
    images.mkdir()
    picture(64, 48).save(images / "000.jpg")
    rows = []
    for number in range(200):
        key = f"{number:03d}.jpg"
        if number:
            (images / key).hardlink_to(images / "000.jpg")
        corners = np.sort(rng.uniform(0, (63, 47), (100, 2, 2)), axis=1).reshape(100, 4)  # xyxy
        corners[:, 2:] = np.maximum(corners[:, 2:], corners[:, :2] + 1)  # VOC has no smaller boxes
        found = [
            box(1 + i % 3, round(1 - i / 100, 2), *xyxy) for i, xyxy in enumerate(corners.tolist())
        ]
        rows.append(Row(key, (48, 64), found))
    return made_run(folder / "run", rows, input=images, shard_size=5)


@pytest.mark.long
@pytest.mark.parametrize("to", list_formats())
def test_many_shards_come_back_and_took_the_memory_of_one(
    to: str, many_shards: Path, export: Export
) -> None:
    export(many_shards, to)  # imports and caches are not counted
    # The smaller of two, because a library fills a cache of 8 MB at some call.
    peaks = []
    for _ in range(2):
        tracemalloc.start()
        try:
            folder = export(many_shards, to, "images=link")
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    assert min(peaks) < 5e6, "a shard's 500 rows as Python objects take 1 MB, the run's 40"
    assert_same(list_boxes(many_shards), list(READERS[to](folder)))
