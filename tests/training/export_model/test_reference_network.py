"""Extraction of torchvision's network from a loaded model, and comparison of two outputs."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pipeline.models.registry import find_format
from pipeline.training.export_model.reference_network import (
    all_detections_empty,
    compute_output,
    detector_limits,
    extract_network,
    measure_difference,
)
from tests.helpers.runs import settings_for


def loaded(*words: str) -> nn.Module:
    return extract_network(find_format(settings_for("input=.", *words)).load())


def found(*rows: tuple[float, float, int]) -> dict[str, Tensor]:
    """Make detections from (x_min, score, label). Boxes are 10 pixels wide."""
    x = torch.tensor([row[0] for row in rows])
    boxes = torch.stack(
        [x, torch.zeros(len(rows)), x + 10, torch.full((len(rows),), 10.0)], dim=1
    ).reshape(-1, 4)
    return {
        "boxes": boxes,
        "scores": torch.tensor([row[1] for row in rows]),
        "labels": torch.tensor([row[2] for row in rows], dtype=torch.int64),
    }


@pytest.mark.parametrize(
    ("words", "given", "shape"),
    [
        (["task=classify", "model=squeezenet1_1", "weights=random"], (2, 3, 64, 64), (2, 1000)),
        (
            ["task=segment", "model=lraspp_mobilenet_v3_large", "weights=random"],
            (2, 3, 64, 96),
            (2, 21, 64, 96),
        ),
    ],
)
def test_logits_of_a_batch(words: list[str], given: tuple, shape: tuple) -> None:
    network = loaded(*words)
    assert compute_output(network, torch.rand(given)).shape == shape
    assert not any(
        module._forward_hooks or module._forward_pre_hooks for module in network.modules()
    )
    assert detector_limits(network) == (0.0, None)


def test_detections_of_an_image() -> None:
    network = loaded("task=detect", "model=codes")
    said = compute_output(network, torch.rand(3, 40, 60))
    assert set(said) == {"boxes", "labels", "scores"} and said["boxes"].shape == (
        len(said["scores"]),
        4,
    )
    least, most = detector_limits(network)
    assert 0 < least < 0.5 and most is not None and len(said["scores"]) <= most
    assert not any(
        module._forward_hooks or module._forward_pre_hooks for module in network.modules()
    )


ONE = (0.0, 0.9, 1)


@pytest.mark.parametrize(
    ("expected", "other", "differ"),
    [
        (torch.ones(1, 2), torch.ones(1, 2), 0.0),
        (torch.tensor([[4.0, 1.0]]), torch.tensor([[4.0, 2.0]]), 0.25),
        (torch.ones(1, 2), torch.ones(2, 2), float("inf")),
        (found(), found(), 0.0),
        (found(ONE), found(), 1.0),
        (found(), found(ONE), 1.0),
        (
            found(ONE, (50.0, 0.5, 1)),
            found((50.5, 0.5005, 1), ONE),
            0.0,
        ),  # near-ties may change places
        (found(ONE), found((0.0, 0.9, 2)), 1.0),
        (found(ONE), found((0.0, 0.89, 1)), 1.0),
        (found(ONE), found((2.0, 0.9, 1)), 1.0),
        (found(ONE, (50.0, 0.5, 1)), found(ONE), 0.5),
    ],
)
def test_how_far_two_answers_are_apart(expected: Any, other: Any, differ: float) -> None:
    assert measure_difference(expected, other) == pytest.approx(differ)


def test_nothing_found_is_known() -> None:
    assert all_detections_empty([]) and all_detections_empty([found(), found()])
    assert not all_detections_empty([found(), found(ONE)]) and not all_detections_empty(
        [torch.zeros(1, 2)]
    )
