"""Regions as rows."""

import numpy as np
import pytest
import torch

from pipeline.core.types import Item
from pipeline.ops.masks import argmax_at_full_size, decode_rle
from pipeline.tasks.segment import Segment
from tests.helpers.pictures import spec_of

SPEC = spec_of("__background__", "dog", "cat")


def halves() -> torch.Tensor:
    """Left half dog at 0.8, right half cat at 0.6, one quarter of the left background."""
    probabilities = torch.zeros(3, 8, 8)
    probabilities[1, :, :4], probabilities[2, :, :4], probabilities[2, :, 4:] = 0.8, 0.2, 0.6
    probabilities[1, :, 4:] = 0.4
    probabilities[:, :4, :2] = torch.tensor([0.9, 0.1, 0.0])[:, None, None]
    return probabilities


def test_all_background_has_no_row() -> None:
    task = Segment(SPEC)
    rows = task.make_rows(
        [{"probabilities": torch.tensor([0.9, 0.1, 0.0])[:, None, None].expand(3, 4, 4)}],
        [Item(0, "a", (9, 7))],
    )
    assert rows.num_rows == 0 and rows.schema.equals(task.schema, check_metadata=True)


def test_a_row_for_each_class_with_its_pixels_share_and_mean_probability() -> None:
    rows = (
        Segment(SPEC).make_rows([{"probabilities": halves()}], [Item(5, "a", (8, 8))]).to_pylist()
    )
    assert [(row["class_name"], row["pixels"], row["share"]) for row in rows] == [
        ("cat", 32, 0.5),
        ("dog", 24, 0.375),
    ]
    assert [row["score"] for row in rows] == [pytest.approx(0.6), pytest.approx(0.8)]
    dog = decode_rle(rows[1]["mask_rle"], (8, 8))
    assert np.array_equal(dog, (halves().argmax(dim=0) == 1).numpy())


def test_probabilities_are_interpolated_to_the_originals_size_then_compared() -> None:
    torch.manual_seed(0)
    probabilities = torch.rand(3, 6, 5).softmax(dim=0)
    ids, confidence = argmax_at_full_size(probabilities, (31, 44))
    whole = torch.nn.functional.interpolate(
        probabilities[None], size=(31, 44), mode="bilinear", align_corners=False
    )[0]
    assert np.array_equal(ids, whole.argmax(dim=0).numpy())
    np.testing.assert_allclose(confidence, whole.max(dim=0).values.numpy(), atol=1e-6)


def test_the_overlay_tints_every_region() -> None:
    task = Segment(SPEC)
    rows = task.make_rows([{"probabilities": halves()}], [Item(0, "a", (400, 400))])
    drawn = task.draw(torch.full((3, 400, 400), 90, dtype=torch.uint8), rows)
    colours = {tuple(drawn[:, y, x].tolist()) for y, x in ((300, 100), (300, 300), (150, 50))}
    assert len(colours) == 3 and (90, 90, 90) in colours
