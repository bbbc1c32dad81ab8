"""What anybody's program gives back, taken or refused."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pipeline.core.errors import PipelineError
from pipeline.models.programs.adapters import (
    ChunkedLogits,
    LogitsPerImage,
    OneImageDetector,
    format_shape,
    parse_detections,
    select_logits,
)

BOXES = torch.tensor([[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]])
LABELS = torch.tensor([3, 1])
SCORES = torch.tensor([0.5, 0.25])
NAMED = {"scores": SCORES, "labels": LABELS, "boxes": BOXES}


class Gives(nn.Module):
    """A program with a ready answer for each batch size, which counts its calls."""

    def __init__(self, answer: Any) -> None:
        super().__init__()
        self.answer, self.sizes = answer, []

    def forward(self, images: Tensor) -> Any:
        self.sizes.append(len(images))
        return self.answer(images)


def channel_means(images: Tensor) -> Tensor:
    return images.mean(dim=(2, 3)) - 1


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
        [NAMED, NAMED],  # two images' for one
        {"boxes": BOXES, "labels": LABELS, "scores": SCORES[:1]},
        (BOXES, LABELS.float(), SCORES),  # two of a kind: which are the scores?
        (BOXES, LABELS),
    ],
)
def test_anything_else_is_refused_with_what_was_expected(returned: Any) -> None:
    with pytest.raises(
        PipelineError, match=r"expected the interface of a torchvision detector.*boxes \(N x 4"
    ):
        parse_detections(returned)


def test_a_detector_of_batches_gets_batches_of_one() -> None:
    program = Gives(lambda images: (BOXES[None], LABELS[None], SCORES[None] * images.mean()))
    outputs = OneImageDetector(program, batched=True)(
        [torch.ones(3, 4, 6), torch.zeros(3, 5, 5)], [(4, 6), (5, 5)]
    )
    assert [one["scores"].tolist() for one in outputs] == [
        [0.5, 0.25],
        [0, 0],
    ] and program.sizes == [1, 1]
    assert outputs[1]["boxes"].equal(BOXES)


@pytest.mark.parametrize(
    "wrap", [lambda x: x, lambda x: {"aux": -x, "out": x}, lambda x: {"y": x}, lambda x: (x, -x)]
)
def test_the_output_that_counts(wrap: Any) -> None:
    assert select_logits(wrap(SCORES)) is SCORES


@pytest.mark.parametrize("returned", [None, {}, (), ["logits"], 3.0])
def test_no_tensor_is_refused(returned: Any) -> None:
    with pytest.raises(PipelineError, match="expected a tensor of logits"):
        select_logits(returned)


@pytest.mark.parametrize(
    ("batch", "calls"),
    [
        ((1, None), [5]),
        ((2, 2), [2, 2, 2]),
        ((4, 4), [4, 4]),
        ((8, 8), [8]),
        ((2, 4), [4, 2]),
        ((1, 1), [1] * 5),
    ],
)
def test_a_program_gets_as_many_images_as_it_takes(
    batch: tuple[int, int | None], calls: list[int]
) -> None:
    images = torch.rand(5, 3, 4, 4)
    program = Gives(channel_means)
    outputs = LogitsPerImage(ChunkedLogits(program, 3, 2, batch))(list(images), [(4, 4)] * 5)
    torch.testing.assert_close(
        torch.stack([one["logits"] for one in outputs]), channel_means(images)
    )
    assert program.sizes == calls


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (
            lambda images: torch.zeros(len(images), 4),
            "gave 2 x 4 for a batch of 2; expected 2 x 3.*has 3 names",
        ),
        (lambda images: torch.zeros(1, 3), "gave 1 x 3 for a batch of 2"),
        (lambda images: torch.zeros(len(images), 3, 1, 1), "gave 2 x 3 x 1 x 1"),
        (
            lambda images: channel_means(images).softmax(dim=1),
            "gives probabilities.*expected logits",
        ),
    ],
)
def test_what_is_no_column_of_logits_for_each_name_is_refused(answer: Any, message: str) -> None:
    with pytest.raises(PipelineError, match=message):
        ChunkedLogits(Gives(answer), 3, 2)(torch.rand(2, 3, 4, 4))


def test_a_region_map_has_a_height_and_a_width() -> None:
    network = ChunkedLogits(Gives(lambda images: {"out": images[:, :2]}), 2, 4, (1, 2))
    images = torch.rand(3, 3, 5, 7) - 1
    assert network(images)["out"].equal(images[:, :2])
    with pytest.raises(PipelineError, match="expected 1 x 2 x height x width"):
        ChunkedLogits(Gives(channel_means), 2, 4)(torch.rand(1, 3, 4, 4))


def test_shapes_are_told_in_words() -> None:
    assert [format_shape(one) for one in [(), (None, 3, 224, 224), (7,)]] == [
        "unknown",
        "any x 3 x 224 x 224",
        "7",
    ]
