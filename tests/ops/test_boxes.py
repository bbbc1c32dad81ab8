import numpy as np
import pyarrow as pa
import pytest

from pipeline.ops.boxes import box_area, keep_by_nms, rank_within_groups, read_boxes_xyxy


def boxes(*rows):
    return np.array(rows, np.float32).reshape(-1, 4)


def test_the_four_columns_become_an_array_in_xyxy_order():
    table = pa.table({"y_max": [4.0], "x_max": [3.0], "y_min": [2.0], "x_min": [1.0]})
    assert read_boxes_xyxy(table).tolist() == [[1, 2, 3, 4]]


def test_an_empty_table_becomes_an_array_of_shape_0_4():
    table = pa.table(
        {name: pa.array([], pa.float32()) for name in ("x_min", "y_min", "x_max", "y_max")}
    )
    assert read_boxes_xyxy(table).shape == (0, 4)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (boxes(), []),
        (boxes((0, 0, 0, 0)), [0]),
        (boxes((1, 2, 4, 6)), [12]),
        (boxes((4, 6, 1, 2)), [0]),  # turned around on both axes is not a positive area
        (boxes((0, 0, 5, -1), (-2, -3, 0, 0)), [0, 6]),
        (boxes((0.5, 0.5, 1.0, 1.0)), [0.25]),
    ],
)
def test_area(given, expected):
    assert box_area(given).tolist() == expected


A, NEAR_A, FAR = (
    (0, 0, 10, 10),
    (1, 0, 11, 10),
    (100, 100, 110, 110),
)  # A and NEAR_A overlap by 90/110 = 0.818


@pytest.mark.parametrize(
    ("given", "scores", "groups", "iou", "kept"),
    [
        (boxes(), [], [], 0.5, []),
        (boxes(A), [0.5], [7], 0.5, [True]),
        (boxes(A, NEAR_A), [0.9, 0.8], [0, 0], 0.5, [True, False]),
        (boxes(A, NEAR_A), [0.8, 0.9], [0, 0], 0.5, [False, True]),
        (boxes(A, NEAR_A), [0.9, 0.8], [0, 0], 0.82, [True, True]),
        (boxes(A, NEAR_A), [0.9, 0.8], [0, 0], 0.81, [True, False]),
        (boxes(A, NEAR_A), [0.9, 0.8], [0, 1], 0.5, [True, True]),
        (boxes(A, FAR, NEAR_A), [0.9, 0.1, 0.8], [3, 3, 3], 0.0, [True, True, False]),
        (boxes(A, A), [0.9, 0.8], [0, 0], 1.0, [True, True]),  # > iou, and nothing is more than 1
        # a box that is itself dropped drops nothing: the third overlaps only the second by more
        # than a half
        (
            boxes((0, 0, 10, 10), (3, 0, 13, 10), (6, 0, 16, 10)),
            [0.9, 0.8, 0.7],
            [0, 0, 0],
            0.5,
            [True, False, True],
        ),
    ],
)
def test_nms_keeps(given, scores, groups, iou, kept):
    found = keep_by_nms(given, np.array(scores, np.float32), np.array(groups, np.int64), iou)
    assert found.tolist() == kept


def test_nms_takes_the_read_only_arrays_that_arrow_hands_out():
    given, scores, groups = boxes(A, NEAR_A), np.array([0.9, 0.8], np.float32), np.array([0, 0])
    for array in (given, scores, groups):
        array.flags.writeable = False
    assert keep_by_nms(given, scores, groups, 0.5).tolist() == [True, False]


def crowd(n=60):
    """Boxes of 20 to 200 pixels, many of them overlapping, and their scores."""
    rng = np.random.default_rng(0)
    corner, size = rng.uniform(0, 500, (n, 2)), rng.uniform(20, 200, (n, 2))
    return np.hstack([corner, corner + size]).astype(np.float32), rng.random(n).astype(np.float32)


@pytest.mark.parametrize(
    "image_id",
    [1, 1_000, 10_000, *(pytest.param(image_id) for image_id in (100_000, 1_000_000, 10**9))],
)
def test_nms_does_not_depend_on_the_number_of_the_image(image_id):
    given, scores = crowd()
    at_zero = keep_by_nms(given, scores, np.zeros(60, np.int64), 0.5)
    assert 10 < at_zero.sum() < 60
    assert keep_by_nms(given, scores, np.full(60, image_id), 0.5).tolist() == at_zero.tolist()


@pytest.mark.parametrize(
    ("groups", "scores", "ranks"),
    [
        ([], [], []),
        ([5], [0.1], [0]),
        ([0, 0, 0], [0.1, 0.9, 0.5], [2, 0, 1]),
        ([0, 0, 0], [0.5, 0.5, 0.5], [0, 1, 2]),
        ([1, 0, 1, 0], [0.2, 0.3, 0.4, 0.1], [1, 0, 0, 1]),
        ([2, 9, 2], [0.4, 0.4, 0.6], [1, 0, 0]),
    ],
)
def test_rank_within(groups, scores, ranks):
    assert (
        rank_within_groups(np.array(groups, np.int64), np.array(scores, np.float32)).tolist()
        == ranks
    )


def test_ranks_of_many_rows_are_those_of_counting():
    rng = np.random.default_rng(1)
    groups, scores = rng.integers(0, 9, 200), rng.integers(0, 10, 200).astype(np.float32)
    counted = [
        sum((scores[j], -j) > (scores[i], -i) for j in range(200) if groups[j] == groups[i])
        for i in range(200)
    ]
    assert rank_within_groups(groups, scores).tolist() == counted
