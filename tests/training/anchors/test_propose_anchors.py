"""The `anchors` command and the computation of box shapes."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.core.errors import ConfigError
from pipeline.models.anchors import Anchors
from pipeline.training.anchors import propose_anchors as module
from pipeline.training.anchors.box_shapes import (
    cluster_values,
    compute_best_iou,
    measure_fit,
    propose_elongations,
    propose_ratios,
    propose_sizes,
)
from pipeline.training.anchors.propose_anchors import propose_anchors
from pipeline.training.anchors.strides import measure_stride_fit, propose_strides
from tests.helpers.runs import settings_for

THIN = [(3 * length / 2, length / 8) for length in range(100, 400, 5)] + [(14, 160), (16, 200)]
STRIDES = [8.0, 16.0, 32.0, 64.0, 128.0]


class Boxes:
    """Examples with boxes (w, h) at a corner of a 600 x 800 image, and one image without boxes."""

    def __init__(self, shapes: list[tuple[float, float]]) -> None:
        self.shapes = np.array(shapes, dtype=np.float32).reshape(-1, 2)

    def __len__(self) -> int:
        return 2

    @property
    def sizes_hw(self) -> np.ndarray:
        return np.array([(600, 800), (50, 60)])

    def boxes(self) -> Iterator[tuple[tuple[int, int], np.ndarray]]:
        yield (600, 800), np.concatenate([np.zeros_like(self.shapes), self.shapes], axis=1)
        yield (50, 60), np.empty((0, 4), dtype=np.float32)


@pytest.fixture
def proposed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., tuple[str, dict[str, Any]]]:
    """Return proposed(shapes, "model=..."), which returns the text and the figures of the file."""

    def call(
        shapes: list[tuple[float, float]], model: str, *more: str
    ) -> tuple[str, dict[str, Any]]:
        class Part:
            training = Boxes(shapes)

        monkeypatch.setattr(module, "instantiate", lambda node, **extra: Part)
        text = propose_anchors(
            settings_for(
                f"output={tmp_path}", "task=detect", f"model={model}", "weights=random", *more
            )
        )
        assert (tmp_path / "anchors" / f"{model}.png").stat().st_size > 1000
        return text, json.loads((tmp_path / "anchors" / f"{model}.json").read_text())

    return call


@pytest.mark.long
@pytest.mark.parametrize(
    ("model", "more"),
    [
        ("fasterrcnn_resnet50_fpn", []),
        ("fasterrcnn_mobilenet_v3_large_320_fpn", []),
        ("fasterrcnn", ["backbone=mobilenet_v3_small"]),
        ("retinanet_resnet50_fpn", []),
        ("ssd300_vgg16", []),
        ("ssdlite320_mobilenet_v3_large", []),
    ],
)
def test_long_thin_boxes_are_recalled_far_better(
    model: str, more: list[str], proposed: Callable[..., Any]
) -> None:
    text, record = proposed(THIN, model, *more)
    assert record["own"]["recall"] < 0.4 and record["proposed"]["recall"] > 0.85
    assert record["proposed"]["mean_best_iou"] > record["own"]["mean_best_iou"] + 0.2
    words = text.splitlines()[-1]
    assert words.startswith("anchors.")
    told = {key: value for key, value in record["proposed"].items() if key in ("sizes", "ratios")}
    assert Anchors.from_mapping(vars(settings_for(*words.split()).anchors)) == Anchors.from_mapping(
        told
    )
    _, beside = proposed(THIN, model, *more, *words.split())  # said, they are the model's own
    assert beside["own"]["recall"] == pytest.approx(record["proposed"]["recall"], abs=0.02)


def test_anchors_that_fit_are_kept(proposed: Callable[..., Any]) -> None:
    shapes = [
        (size * 0.75, size * 0.75) for size in (32, 64, 128, 256, 512)
    ]  # 600 x 800 is shown as 800 x 1066
    _, record = proposed(shapes, "fasterrcnn_resnet50_fpn")
    assert record["own"]["recall"] == 1 and record["proposed"] is None


def test_fcos_gets_strides_so_that_thin_boxes_have_a_place(proposed: Callable[..., Any]) -> None:
    text, record = proposed([(300, 5), (400, 6), (350, 4)], "fcos_resnet50_fpn")
    assert "boxes with a place" in text and "ratios" not in text.splitlines()[-1]
    assert record["proposed"]["recall"] > record["own"]["recall"] + 0.1


def test_fcos_own_strides_are_kept_where_boxes_have_places(proposed: Callable[..., Any]) -> None:
    text, record = proposed([(100, 100), (300, 200), (50, 60)], "fcos_resnet50_fpn")
    assert record["proposed"] is None and text.endswith(
        "as good: leave anchors.sizes and anchors.ratios out."
    )


def test_data_without_boxes_has_nothing_to_fit(proposed: Callable[..., Any]) -> None:
    with pytest.raises(ConfigError, match="no boxes to fit anchors to"):
        proposed([], "fasterrcnn_resnet50_fpn")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["task=classify", "model=resnet18"], "ResNet has no anchors"),
        (["task=detect", "model=onnx", "weights=x.onnx"], "there is no such file"),
    ],
)
def test_what_has_no_anchors_is_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        propose_anchors(settings_for("train.data=x", *overrides))


# --- shapes


@pytest.mark.parametrize(
    ("box", "anchor", "iou"),
    [
        ((10, 10), (10, 10), 1),
        ((10, 10), (20, 10), 0.5),
        ((10, 20), (20, 10), 1 / 3),
        ((1, 100), (10, 10), 10 / 190),
    ],
)
def test_overlap_is_about_one_centre(
    box: tuple[int, int], anchor: tuple[int, int], iou: float
) -> None:
    assert compute_best_iou(np.array([box], float), np.array([anchor], float)) == pytest.approx(
        [iou]
    )
    assert measure_fit(np.array([box], float), np.array([anchor, (1000, 1000)], float)).recall == (
        iou >= 0.5
    )


@pytest.mark.parametrize(
    ("values", "k", "centres"),
    [
        ([1.0], 1, [1]),
        ([1.0], 3, [1]),
        ([1.0, 1.0, 9.0], 2, [1, 9]),
        ([1.0, 2.0, 10.0, 11.0, 30.0], 3, [1.5, 10.5, 30]),
    ],
)
def test_clusters_are_found_without_chance(
    values: list[float], k: int, centres: list[float]
) -> None:
    assert cluster_values(np.array(values), k) == pytest.approx(centres)


def test_levels_that_are_too_coarse_keep_their_sizes() -> None:
    boxes = np.array([(10.0, 10), (12, 12), (20, 20), (22, 22)])
    sizes = propose_sizes(boxes, [[32], [64], [128], [256], [512]])
    assert sizes[2:] == [[128], [256], [512]] and sizes[0][0] == pytest.approx(11, abs=0.5)
    assert sizes[1][0] == pytest.approx(21, abs=0.5)


def test_one_kind_of_box_still_gives_every_size_and_ratio() -> None:
    boxes = np.full((5, 2), 100.0)
    assert [len(level) for level in propose_sizes(boxes, [[32, 40], [64, 80], [128, 160]])] == [
        2,
        2,
        2,
    ]
    assert len(propose_ratios(boxes, 3)) == 3 and 1.0 in propose_ratios(boxes, 3)
    assert propose_elongations(boxes, 2) == [1.0]


def test_standing_and_lying_boxes_are_one_elongation() -> None:
    assert propose_elongations(np.array([(10.0, 40), (40, 10)]), 1) == pytest.approx([4])


# --- places


def test_a_box_has_a_place_unless_it_slips_between_them() -> None:
    assert measure_stride_fit(np.array([(100.0, 100)]), STRIDES, STRIDES).recall == 1
    assert (
        0.4 < measure_stride_fit(np.array([(60.0, 4)]), STRIDES, STRIDES).recall < 0.6
    )  # places are 8 apart
    assert measure_stride_fit(np.array([(4.0, 4)]), STRIDES, STRIDES).recall < 0.4


def test_the_own_strides_come_first() -> None:
    assert propose_strides(np.array([(100.0, 100)]), STRIDES) == STRIDES
    assert propose_strides(np.array([(400.0, 5)]), STRIDES)[0] > 8
