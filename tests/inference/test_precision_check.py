"""Comparing an engine's rows with fp32 rows of the same images."""

import numpy as np
import pyarrow as pa
import pytest

from pipeline.inference.precision_check import compare_rows


def table(*rows: tuple, embedding: list | None = None) -> pa.Table:
    """Make a table of rows (image_id, class_id, score), optionally with a box after them."""
    columns = list(zip(*rows, strict=True)) if rows else [[]] * 7
    names = ["image_id", "class_id", "score", "x_min", "y_min", "x_max", "y_max"][: len(columns)]
    made = {
        name: pa.array(list(one), pa.int64() if "id" in name else pa.float32())
        for name, one in zip(names, columns, strict=True)
    }
    if embedding is not None:
        made["embedding"] = pa.FixedSizeListArray.from_arrays(
            pa.array(np.ravel(embedding), pa.float32()), 2
        )
    return pa.table(made)


DOG = (0, 1, 0.9, 10.0, 10.0, 30.0, 30.0)


def test_the_same_rows_agree() -> None:
    found = compare_rows(table(DOG), table(DOG), 1, "bf16")
    assert (found.rows_fp32, found.rows_here, found.rows_in_both) == (1, 1, 1)
    assert (
        found.score_difference_max == found.box_difference_max == 0.0 and found.cosine_min is None
    )
    assert found.describe().startswith(
        "bf16 beside fp32: 100.0% of fp32's 1 rows on 1 images found again, 0 others"
    )


@pytest.mark.parametrize(
    "other",
    [
        (0, 2, 0.9, 10.0, 10.0, 30.0, 30.0),  # another class
        (1, 1, 0.9, 10.0, 10.0, 30.0, 30.0),  # another image
        (0, 1, 0.9, 25.0, 25.0, 45.0, 45.0),  # elsewhere
    ],
)
def test_another_object_is_none_of_them(other: tuple) -> None:
    found = compare_rows(table(DOG), table(other), 2, "bf16")
    assert (
        found.rows_in_both == 0
        and found.score_difference_max == 0.0
        and "0.0%" in found.describe()
        and "1 others" in found.describe()
    )


def test_differences_are_those_of_the_rows_that_both_have() -> None:
    moved = (0, 1, 0.8, 11.0, 10.0, 30.0, 32.0)
    found = compare_rows(table(DOG, (0, 1, 0.3, 80.0, 80.0, 90.0, 90.0)), table(moved), 1, "bf16")
    assert found.rows_in_both == 1 and found.rows_fp32 == 2
    assert found.score_difference_mean == pytest.approx(0.1, abs=1e-6)
    assert (found.box_difference_mean, found.box_difference_max) == (
        pytest.approx(0.75),
        pytest.approx(2.0),
    )


def test_a_row_is_the_partner_of_one_only() -> None:
    twice = compare_rows(table(DOG, (0, 1, 0.5, 10.0, 10.0, 30.0, 30.0)), table(DOG), 1, "bf16")
    assert twice.rows_in_both == 1


def test_classes_are_compared_without_boxes_and_vectors_by_their_angle() -> None:
    one, other = (
        table((0, 5, 0.7), (1, 6, 0.2), embedding=[[1, 0], [1, 0]]),
        table((0, 5, 0.6), (1, 7, 0.2), embedding=[[2, 2], [1, 0]]),
    )
    found = compare_rows(one, other, 2, "bf16")
    assert found.rows_in_both == 1 and found.box_difference_max is None
    assert (
        found.cosine_min == pytest.approx(np.sqrt(0.5))
        and "cosine 0.70711" in found.describe()
        and "px" not in found.describe()
    )


def test_nothing_found_by_either() -> None:
    found = compare_rows(table(), table(), 3, "bf16")
    assert found.rows_in_both == 0 and "100.0% of fp32's 0 rows on 3 images" in found.describe()
