"""mIoU beside label maps."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.core.errors import ConfigError
from pipeline.ops.masks import encode_rle
from pipeline.results.evaluation.evaluate import evaluate
from pipeline.results.evaluation.result import Evaluation
from pipeline.runs.finished_run import FinishedRun
from tests.helpers.made_runs import Row, box, made_run

NAMES = ("__background__", "road", "sky")


def regions(labels: list[list[int]]) -> list[dict[str, Any]]:
    """As `segment` has them: a row for each class but the background."""
    ids = np.array(labels)
    height, width = ids.shape
    common = {"mask_height": height, "mask_width": width, "score": 0.9, "pixels": 1, "share": 0.5}
    return [
        common | {"class_id": int(c), "mask_rle": encode_rle(ids == c)} for c in np.unique(ids) if c
    ]


def save(path: Path, labels: list[list[int]], mode: str = "P") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.array(labels, dtype=np.uint8))
    if mode == "P":
        image.putpalette([0, 9, 99] * 256)
    image.save(path)


def evaluated(run: Path, truth: Path) -> Evaluation:
    return evaluate(FinishedRun.open(run), truth)


FOUND = [[0, 1, 1], [2, 2, 0]]
TRUE = [[0, 1, 2], [2, 255, 1]]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    rows = [
        Row("a/x.jpg", (2, 3), regions(FOUND)),
        Row("b.jpg", None, status="empty", error="0 bytes"),
    ]
    return made_run(tmp_path / "run", rows, "segment", NAMES, shard_size=1)


@pytest.mark.parametrize("mode", ["P", "L"])
@pytest.mark.parametrize("name", ["a/x.jpg.png", "a/x.png", "x.png", "x.jpg.png", "other/x.png"])
def test_pixels_are_counted(name: str, mode: str, run: Path, tmp_path: Path) -> None:
    save(tmp_path / "truth" / name, TRUE, mode)
    result = evaluated(run, tmp_path / "truth")
    # background: 1 right, 1 made up; road: 1 right, 1 made up, 1 missed; sky: 1 right, 1 missed;
    # one pixel does not count
    assert [row["iou"] for row in result.rows()] == pytest.approx([1 / 2, 1 / 3, 1 / 2])
    assert result.figures["regions"] == pytest.approx(
        {
            "miou": (1 / 2 + 1 / 3 + 1 / 2) / 3,
            "pixel_accuracy": 3 / 5,
            "mean_class_accuracy": (1 + 1 / 2 + 1 / 2) / 3,
        }
    )
    assert result.confusion.counts.tolist() == [
        [1, 0, 0, 0],
        [1, 1, 0, 0],
        [0, 1, 1, 0],
        [0, 0, 0, 0],
    ]


def test_images_without_an_answer_count_as_missed(run: Path, tmp_path: Path) -> None:
    for name in ("a/x.png", "b.png", "c.png"):
        save(tmp_path / "truth" / name, TRUE)
    result = evaluated(run, tmp_path / "truth")
    assert (result.images.truth, result.images.failed, result.images.not_in_run) == (3, 1, 1)
    assert result.figures["regions"]["pixel_accuracy"] == pytest.approx(3 / 15)
    assert result.confusion.counts[:, -1].tolist() == [2, 4, 4, 0]


def test_all_ignored_is_refused(run: Path, tmp_path: Path) -> None:
    save(tmp_path / "truth" / "a/x.png", [[255] * 3] * 2)
    with pytest.raises(ConfigError, match="every pixel is 255, which does not count"):
        evaluated(run, tmp_path / "truth")


def test_what_is_no_label_map_is_refused(run: Path, tmp_path: Path) -> None:
    truth = tmp_path / "truth"
    truth.mkdir()
    with pytest.raises(ConfigError, match="no PNG files in it"):
        evaluated(run, truth)
    wrong_value = r"x.png: value 7; expected .*0 \(__background__\) to 2 \(sky\), or 255"
    wrong_size = "x.png has 2x1 pixels; its image has 3x2"
    for labels, said in (([[0, 7, 1]] * 2, wrong_value), ([[0, 1]], wrong_size)):
        save(truth / "x.png", labels)
        with pytest.raises(ConfigError, match=said):
            evaluated(run, truth)
    Image.new("RGB", (3, 2)).save(truth / "x.png")
    with pytest.raises(ConfigError, match="pixels of mode RGB; expected P or L"):
        evaluated(run, truth)
    (truth / "x.png").write_bytes(b"no picture")
    with pytest.raises(ConfigError, match="cannot be read as a label map"):
        evaluated(run, truth)
    with pytest.raises(
        ConfigError, match=r"a run of task=segment is evaluated with .* or a folder of label maps"
    ):
        evaluated(run, truth / "x.png")


def test_instances_lie_on_each_other_by_score(tmp_path: Path) -> None:
    road, sky = np.array([[1, 1, 0], [0, 0, 0]], bool), np.array([[0, 1, 1], [0, 0, 0]], bool)
    masks = [(1, 0.9, road), (2, 0.5, sky)]
    common = {"mask_height": 2, "mask_width": 3}
    found = [
        box(c, score, 0, 0, 3, 2, mask_rle=encode_rle(mask), **common) for c, score, mask in masks
    ]
    run = made_run(tmp_path / "run", [Row("x.jpg", (2, 3), found)], "instances", NAMES)
    save(tmp_path / "truth" / "x.png", [[1, 1, 2], [0, 0, 0]])
    assert evaluated(run, tmp_path / "truth").figures["regions"]["miou"] == 1.0


def test_a_runs_own_label_maps_are_right(annotate: Callable[..., Path], mixed_images: Path) -> None:
    own = ("weights=random", "limit=2", "overlays=false", "sink=[parquet,label_maps]")
    run = annotate("task=segment", "model=lraspp_mobilenet_v3_large", f"input={mixed_images}", *own)
    result = evaluated(run, run / "label_maps")
    assert (
        result.figures["regions"]["miou"] == 1.0 and result.images.not_in_run == 0 and result.rows()
    )


def test_duplicates_are_not_evaluated(tmp_path: Path) -> None:
    rows = [
        Row("x.jpg", (2, 3), regions(FOUND)),
        Row("y.jpg", None, status="duplicate", error="the same bytes as x.jpg"),
    ]
    run = made_run(tmp_path / "run", rows, "segment", NAMES)
    save(tmp_path / "truth" / "x.png", TRUE)
    alone = evaluated(run, tmp_path / "truth")
    save(tmp_path / "truth" / "y.png", TRUE)
    both = evaluated(run, tmp_path / "truth")
    assert (
        both.figures == alone.figures
        and both.rows() == alone.rows()
        and both.images.duplicates == 1
    )
