import numpy as np
import pytest

from pipeline.training.synthetic.print_layer import (
    PrintLayer,
    paste_picture,
    rectangle_outline,
    rotate_quarters,
    shift_codes,
    stamp_ink,
)


def test_an_outline_goes_around_the_rectangle():
    points = rectangle_outline(1, 2, 5, 10, along=4)
    assert points.shape == (16, 2) and points.dtype == np.float32
    assert points.min(0).tolist() == [1, 2] and points.max(0).tolist() == [5, 10]
    assert (np.isin(points[:, 0], (1, 5)) | np.isin(points[:, 1], (2, 10))).all()


@pytest.mark.parametrize(
    ("x", "y", "changed"),
    [(0, 0, 4), (2, 2, 1), (-1, -1, 1), (3, 0, 0), (0, -2, 0), (50, 50, 0), (-50, 0, 0), (1, 1, 4)],
)
def test_what_lies_beyond_the_canvas_is_cut(x, y, changed):
    stamped, pasted = np.zeros((3, 3, 3), np.uint8), np.zeros((3, 3, 3), np.uint8)
    stamp_ink(stamped, np.full((2, 2), 255, np.uint8), (9, 9, 9), x, y)
    paste_picture(pasted, np.full((2, 2, 3), 9, np.uint8), x, y)
    assert (stamped == 9).all(2).sum() == changed and np.array_equal(stamped, pasted)


def test_half_ink_is_half_the_colour():
    canvas = np.full((1, 2, 3), 100, np.uint8)
    stamp_ink(canvas, np.array([[0, 128]], np.uint8), (200, 0, 100), 0, 0)
    assert (
        canvas[0, 0].tolist() == [100] * 3
        and np.abs(canvas[0, 1].astype(int) - (150, 50, 100)).max() <= 1
    )


@pytest.mark.parametrize("quarters", [0, 1, 2, 3, 4])
def test_a_code_turns_with_its_print(quarters):
    pixels = np.zeros((10, 20, 3), np.uint8)
    pixels[2:5, 11:18] = 255
    made = rotate_quarters(
        PrintLayer(
            pixels, ((1, rectangle_outline(11, 2, 18, 5)),), np.full((10, 20), 255, np.uint8)
        ),
        quarters,
    )
    (x0, y0), (x1, y1) = made.codes[0][1].min(0).astype(int), made.codes[0][1].max(0).astype(int)
    assert made.pixels[y0:y1, x0:x1].min() == 255 and made.pixels.sum() == pixels.sum()
    assert made.alpha.shape == made.size_hw


def test_moving_moves_every_code():
    ((label, points),) = shift_codes([(3, rectangle_outline(0, 0, 1, 1))], 5, 7)
    assert label == 3 and points.min(0).tolist() == [5, 7]
    assert shift_codes([], 1, 1) == ()
