"""What a detecting program returns, parsed or refused."""

from typing import Any

import pytest
import torch

from pipeline.core.errors import PipelineError
from pipeline.models.programs.detections import OneImageDetector, parse_detections
from tests.models.programs.fake_program import FakeProgram

BOXES = torch.tensor([[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]])
LABELS = torch.tensor([3, 1])
SCORES = torch.tensor([0.5, 0.25])
NAMED = {"scores": SCORES, "labels": LABELS, "boxes": BOXES}


@pytest.mark.parametrize(
    "returned",
    [
        NAMED,
        [NAMED],
        ({}, [NAMED]),
        (BOXES, LABELS, SCORES),
        [SCORES, BOXES, LABELS],
        {"a": SCORES, "b": LABELS.int(), "c": BOXES},
        ({"x": BOXES, "y": SCORES, "z": LABELS},),
    ],
)
def test_detections_are_known_by_name_or_by_type_and_shape(returned: Any) -> None:
    found = parse_detections(returned)
    assert (
        found["boxes"].equal(BOXES)
        and found["labels"].equal(LABELS)
        and found["scores"].equal(SCORES)
    )
    assert found["labels"].dtype == torch.int64


def test_an_image_without_detections_is_no_error() -> None:
    found = parse_detections(
        {
            "boxes": torch.zeros(0, 4),
            "labels": torch.zeros(0, dtype=torch.int64),
            "scores": torch.zeros(0),
        }
    )
    assert {name: tuple(value.shape) for name, value in found.items()} == {
        "boxes": (0, 4),
        "labels": (0,),
        "scores": (0,),
    }


@pytest.mark.parametrize(
    "returned",
    [
        None,
        torch.zeros(1),
        (),
        [NAMED, NAMED],  # detections of two images
        {"boxes": BOXES, "labels": LABELS, "scores": SCORES[:1]},
        (BOXES, LABELS.float(), SCORES),  # two outputs could be the scores
        (BOXES, LABELS),
    ],
)
def test_anything_else_is_refused_with_what_was_expected(returned: Any) -> None:
    with pytest.raises(
        PipelineError, match=r"expected the interface of a torchvision detector.*boxes \(N x 4"
    ):
        parse_detections(returned)


def test_a_detector_of_batches_gets_batches_of_one() -> None:
    program = FakeProgram(lambda images: (BOXES[None], LABELS[None], SCORES[None] * images.mean()))
    outputs = OneImageDetector(program, batched=True)(
        [torch.ones(3, 4, 6), torch.zeros(3, 5, 5)], [(4, 6), (5, 5)]
    )
    assert [one["scores"].tolist() for one in outputs] == [
        [0.5, 0.25],
        [0, 0],
    ] and program.sizes == [1, 1]
    assert outputs[1]["boxes"].equal(BOXES)
