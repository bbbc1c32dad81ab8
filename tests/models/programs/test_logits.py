"""Logits that a program returns, found or refused."""

from typing import Any

import pytest
import torch
from torch import Tensor

from pipeline.core.errors import PipelineError
from pipeline.models.programs.logits import ChunkedLogits, LogitsPerImage, select_logits
from tests.models.programs.fake_program import FakeProgram

SCORES = torch.tensor([0.5, 0.25])


def compute_means(images: Tensor) -> Tensor:
    return images.mean(dim=(2, 3)) - 1


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
    program = FakeProgram(compute_means)
    outputs = LogitsPerImage(ChunkedLogits(program, 3, 2, batch))(list(images), [(4, 4)] * 5)
    torch.testing.assert_close(
        torch.stack([one["logits"] for one in outputs]), compute_means(images)
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
            lambda images: compute_means(images).softmax(dim=1),
            "gives probabilities.*expected logits",
        ),
    ],
)
def test_what_is_no_column_of_logits_for_each_name_is_refused(answer: Any, message: str) -> None:
    with pytest.raises(PipelineError, match=message):
        ChunkedLogits(FakeProgram(answer), 3, 2)(torch.rand(2, 3, 4, 4))


def test_a_region_map_has_a_height_and_a_width() -> None:
    network = ChunkedLogits(FakeProgram(lambda images: {"out": images[:, :2]}), 2, 4, (1, 2))
    images = torch.rand(3, 3, 5, 7) - 1
    assert network(images)["out"].equal(images[:, :2])
    with pytest.raises(PipelineError, match="expected 1 x 2 x height x width"):
        ChunkedLogits(FakeProgram(compute_means), 2, 4)(torch.rand(1, 3, 4, 4))
