import numpy as np
import pytest

from pipeline.training.synthetic.perspective import (
    bounding_box,
    box_of_codes,
    clip_box,
    project_points,
    random_pose,
    rectangle_corners,
    scale_and_center,
    visible_share,
)
from pipeline.training.synthetic.print_layer import PrintLayer, rectangle_outline


def test_without_turn_and_tilt_a_print_keeps_its_shape():
    seen = project_points(
        rectangle_corners((40, 80)), random_pose(np.random.default_rng(0), (40, 80), 0.0, 0.0)
    )
    assert np.allclose(seen, [(-40, -20), (40, -20), (40, 20), (-40, 20)], atol=1e-3)


@pytest.mark.parametrize("tilt", [0.0, 0.5, 1.0, 1.2])
@pytest.mark.parametrize("turn", [0.0, 1.0, 3.0])
def test_nothing_is_behind_the_camera(turn, tilt):
    for seed in range(20):
        matrix = random_pose(np.random.default_rng(seed), (50, 300), turn, tilt)
        depth = np.c_[rectangle_corners((50, 300)), np.ones(4)] @ matrix[2]
        assert depth.min() > 0


def test_a_box_is_moved_to_a_place_and_scaled():
    matrix = scale_and_center(np.eye(3), np.array([10, 20, 30, 60]), 2.0, (100, 50))
    assert np.allclose(
        bounding_box(project_points(rectangle_corners((60, 30))[2:3], matrix)), [120, 90] * 2
    )


@pytest.mark.parametrize(
    ("points", "part"),
    [
        (rectangle_outline(2, 2, 8, 8), 1.0),
        (rectangle_outline(-5, 0, 5, 10), 0.5),
        (rectangle_outline(-5, -5, 5, 5), 0.25),
        (rectangle_outline(20, 0, 30, 10), 0.0),
        (rectangle_outline(-10, -10, 20, 20), 1 / 9),
        (rectangle_outline(3, 3, 3, 3), 0.0),
    ],
)
def test_how_much_of_a_code_the_frame_shows(points, part):
    assert visible_share(points, (10, 10)) == pytest.approx(part, abs=1e-4)


def test_a_box_is_clipped_to_the_frame():
    assert clip_box(np.array([-5, 2, 30, 50]), (20, 10)).tolist() == [0, 2, 20, 10]


def test_the_whole_box_is_that_of_all_codes_or_else_of_the_print():
    pixels = np.zeros((40, 80, 3), np.uint8)
    codes = ((1, rectangle_outline(1, 2, 5, 6)), (2, rectangle_outline(50, 3, 60, 30)))
    assert box_of_codes(PrintLayer(pixels, codes), np.eye(3)).tolist() == [1, 2, 60, 30]
    assert box_of_codes(PrintLayer(pixels), np.eye(3)).tolist() == [0, 0, 80, 40]
