"""Boxes, masks and numbers as other programs read them."""

import numpy as np
import pyarrow as pa
import pytest

from pipeline.outputs.row_values import clip_box, encode_run_lengths, shorten_floats


@pytest.mark.parametrize(
    ("values", "lengths"),
    [([0], [1]), ([1], [0, 1]), ([0, 0, 1, 1, 1, 0], [2, 3, 1]), ([1, 0, 1], [0, 1, 1, 1])],
)
def test_runs_begin_with_those_outside(values: list[int], lengths: list[int]) -> None:
    assert encode_run_lengths(np.array(values, dtype=bool)) == lengths


def test_a_box_is_cut_to_the_image() -> None:
    row = {"x_min": -1.0, "y_min": 2.0, "x_max": 50.0, "y_max": 31.0}
    assert clip_box(row, {"width": 40, "height": 30}) == (0, 2, 40, 30)


def test_numbers_are_shortened_within_lists_of_any_length() -> None:
    kind = pa.list_(pa.struct([("x", pa.float32()), ("n", pa.int32())]))
    table = pa.table(
        {
            "points": pa.array(
                [[{"x": 0.1, "n": 1}], [], [{"x": 0.2, "n": 2}, {"x": 0.3, "n": 3}]], kind
            )
        }
    )
    assert shorten_floats(table.slice(1))["points"].to_pylist() == [
        [],
        [{"x": 0.2, "n": 2}, {"x": 0.3, "n": 3}],
    ]
