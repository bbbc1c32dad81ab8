"""Differences of a program are found, and rounding at a threshold is not reported."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipeline.ops.masks import encode_rle
from pipeline.training.export_model.parity import (
    ExportParity,
    RowLimits,
    check_raw_difference,
    compute_parity,
)

DOG = (0, 1, 0.9, 10.0, 10.0, 30.0, 30.0)
BIRD = (0, 2, 0.7, 60.0, 10.0, 90.0, 30.0)
BOXES = RowLimits([0.5] * 4, 100)


def images(*statuses: str) -> pa.Table:
    n = len(statuses)
    return pa.table(
        {"image_id": range(n), "status": list(statuses), "height": [8] * n, "width": [10] * n}
    )


def rows(*found: tuple) -> pa.Table:
    """Make rows of (image_id, class_id, score), for boxes with the four sides."""
    names = ["image_id", "class_id", "score", "x_min", "y_min", "x_max", "y_max"]
    columns = list(zip(*found, strict=True)) or [[]] * len(names)
    kinds = [pa.int64(), pa.int64(), *[pa.float32()] * 5]
    made = zip(names, columns, kinds, strict=False)
    return pa.table({name: pa.array(list(column), kind) for name, column, kind in made})


def regions(*found: tuple[int, int]) -> pa.Table:
    """Make rows of (class_id, columns of an 8 x 10 image that it fills from the left)."""
    masks = [np.arange(10) < width for _, width in found]
    full = [np.tile(one, (8, 1)) for one in masks]
    return pa.table(
        {
            "image_id": pa.array([0] * len(found), pa.int64()),
            "class_id": pa.array([one for one, _ in found], pa.int64()),
            "score": pa.array([0.9] * len(found), pa.float32()),
            "share": pa.array([one.mean() for one in full], pa.float32()),
            "mask_rle": pa.array([encode_rle(one) for one in full], pa.string()),
        }
    )


def compute(
    expected: pa.Table, found: pa.Table, limits: RowLimits = BOXES, failed: str = "ok"
) -> ExportParity:
    return compute_parity(images("ok", "ok"), expected, images("ok", failed), found, limits)


def test_the_same_rows_are_equal() -> None:
    one = compute(rows(DOG, BIRD), rows(DOG, BIRD))
    assert one.equal and (one.rows_kept, one.rows_lost, one.rows_added) == (2, 0, 0)
    assert one.box_difference_max == 0.0 and one.pixels_differing is None and not one.shows_nothing
    assert (
        one.record()["equal"] is True and one.describe()["rows"] == "2 of 2 kept, 0 lost, 0 added"
    )


def test_nothing_found_is_equal_and_shows_nothing() -> None:
    one = compute(rows(), rows())
    assert one.equal and one.shows_nothing and one.rows_eager == 0


@pytest.mark.parametrize(
    ("found", "fault"),
    [
        ([DOG], "1 rows lost or added"),
        ([DOG, BIRD, (1, 3, 0.8, 0.0, 0.0, 9.0, 9.0)], "1 rows lost or added"),
        ([(0, 3, *DOG[2:]), BIRD], "2 rows lost or added"),
        ([(0, 1, 0.895, *DOG[3:]), BIRD], "scores 0.005 apart, more than 0.001"),
        ([(0, 1, 0.9, 12.0, 10.0, 30.0, 30.0), BIRD], "1 boxes moved by more than a pixel"),
    ],
)
def test_what_differs_is_said(found: list[tuple], fault: str) -> None:
    one = compute(rows(DOG, BIRD), rows(*found))
    assert not one.equal and any(said.startswith(fault) for said in one.faults()), one.faults()


@pytest.mark.parametrize(
    ("more", "limits", "equal"),
    [
        ((1, 3, 0.5005, 0.0, 0.0, 9.0, 9.0), BOXES, True),
        ((1, 3, 0.502, 0.0, 0.0, 9.0, 9.0), BOXES, False),
        (
            (1, 3, 0.502, 0.0, 0.0, 9.0, 9.0),
            RowLimits([0.5, 0.5, 0.5, 0.5015], 100),
            True,
        ),  # its own class's threshold
        (
            (0, 3, 0.7, 0.0, 0.0, 9.0, 9.0),
            RowLimits([0.5] * 4, 3),
            True,
        ),  # the last of three, and three is the most
        ((0, 3, 0.7, 0.0, 0.0, 9.0, 9.0), RowLimits([0.5] * 4, 4), False),
        ((0, 3, 0.8, 0.0, 0.0, 9.0, 9.0), RowLimits([0.5] * 4, 3), False),  # not the last
    ],
)
def test_a_row_at_a_threshold_may_go_or_come(more: tuple, limits: RowLimits, equal: bool) -> None:
    for expected, found in [((DOG, BIRD, more), (DOG, BIRD)), ((DOG, BIRD), (DOG, BIRD, more))]:
        one = compute(rows(*expected), rows(*found), limits)
        assert one.equal is equal and one.at_the_edge == int(equal)


def test_an_image_that_only_one_can_take_is_a_fault() -> None:
    one = compute(rows(), rows(), failed="model_error")
    assert one.failed_images == 1 and one.faults() == ["1 images that one of the two cannot take"]


@pytest.mark.parametrize(
    ("found", "share", "equal"),
    [
        ([(1, 5)], 0.0, True),
        ([(1, 6)], 0.1, False),
        ([(2, 5)], 0.5, False),
        ([(1, 5), (2, 0)], 0.0, True),  # a region of no pixel to speak of
        ([], 0.5, False),
    ],
)
def test_regions_are_compared_pixel_by_pixel(
    found: list[tuple[int, int]], share: float, equal: bool
) -> None:
    one = compute_parity(
        images("ok"), regions((1, 5)), images("ok"), regions(*found), RowLimits([0.0] * 4, None)
    )
    assert one.pixels_differing == pytest.approx(share) and one.equal is equal
    assert one.box_difference_max is None and "boxes" not in one.describe()


@pytest.mark.parametrize(
    ("difference", "faults"), [(0.0, 0), (1e-5, 0), (0.01, 1), (float("inf"), 1)]
)
def test_logits_that_differ_are_a_fault_whatever_the_rows_say(
    difference: float, faults: int
) -> None:
    said: list[Any] = check_raw_difference(difference)
    assert len(said) == faults
