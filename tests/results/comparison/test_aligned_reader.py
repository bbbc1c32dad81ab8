"""Two runs, image by image, however they were cut."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline.results.comparison import aligned_reader as module
from pipeline.results.comparison.aligned_reader import AlignedImages, read_aligned
from pipeline.runs.finished_run import FinishedRun
from tests.helpers.made_runs import Row, box, made_run
from tests.helpers.pictures import picture


def run_of(path: Path, keys: str, shard_size: int = 2) -> FinishedRun:
    """Make an image for each letter, with 0 boxes for `a`, 1 for `b`, 2 for `c`, 3 for `d`."""
    rows = [
        Row(f"{key}.jpg", found=[box(1, 0.5, i, 0, i + 9, 9) for i in range((ord(key) - 97) % 4)])
        for key in keys
    ]
    return FinishedRun.open(made_run(path, rows, shard_size=shard_size))


def seen(windows: list[AlignedImages]) -> list[tuple[str, int | None, int | None]]:
    """(key, boxes before, boxes after); None where a run has not the image."""
    found = []
    for window in windows:
        counts = []
        for side in (window.before, window.after):
            here = [key is not None for key in side.images["key"].to_pylist()]
            boxes = np.bincount(side.at, minlength=len(here)).tolist()
            assert (np.diff(side.at) >= 0).all()
            assert side.predictions["key"].to_pylist() == [window.keys[i].as_py() for i in side.at]
            counts.append([n if known else None for n, known in zip(boxes, here, strict=True)])
        found += list(zip([key[0] for key in window.keys.to_pylist()], *counts, strict=True))
    return found


@pytest.mark.parametrize("at_once", [1, 3, 4096])
@pytest.mark.parametrize(
    ("before", "after"), [("abcdefg", "abcdefg"), ("abc", "xyz"), ("bdf", "abcdefgh"), ("g", "a")]
)
def test_every_image_comes_once_in_order(
    before: str, after: str, at_once: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_AT_ONCE", at_once)
    one, other = run_of(tmp_path / "one", before), run_of(tmp_path / "other", after, shard_size=3)
    boxes = {key: (ord(key) - 97) % 4 for key in before + after}
    assert seen(list(read_aligned(one, other, ["score"]))) == [
        (key, boxes[key] if key in before else None, boxes[key] if key in after else None)
        for key in sorted(boxes)
    ]


def test_files_that_came_later_are_in_a_part_of_their_own(
    tmp_path: Path, annotate: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plan of bdf, to which acg were appended: its images are not in the order of their keys."""
    monkeypatch.setattr(module, "_AT_ONCE", 1)
    (tmp_path / "late").mkdir()
    for keys in ("bdf", "acg"):
        for key in keys:
            picture(40, 30).save(tmp_path / "late" / f"{key}.jpg")
        late = annotate(
            "model=codes", f"input={tmp_path / 'late'}", "shard_size=2", "overlays=false"
        )
    assert len(FinishedRun.open(late).plan.parts) == 2
    windows = list(
        read_aligned(FinishedRun.open(late), run_of(tmp_path / "made", "abcdefg", 3), ["score"])
    )
    found = [(key, before is not None, after is not None) for key, before, after in seen(windows)]
    assert found == [(key, key != "e", True) for key in "abcdefg"]
