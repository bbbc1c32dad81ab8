import numpy as np
import pytest

from pipeline.training.synthetic.backgrounds import Backgrounds
from pipeline.training.synthetic.fonts_and_words import TRAINING
from pipeline.training.synthetic.perspective import project_points, rectangle_corners
from pipeline.training.synthetic.print_layer import PrintLayer
from pipeline.training.synthetic.scene import (
    _draw_print,
    compute_truth,
    render_layout,
    render_scene,
)
from pipeline.training.synthetic.scene_layout import PlacedPrint, SceneLayout

NOWHERE = Backgrounds((), 10**8)


@pytest.mark.parametrize("number", range(25))
def test_the_truth_is_the_same_with_and_without_pixels(number):
    pixels, found = render_scene((0, 0, 0, number), TRAINING, NOWHERE, 160)
    alone = compute_truth((0, 0, 0, number), TRAINING, 160)
    assert pixels.shape == (160, 160, 3) and pixels.dtype == np.uint8
    assert np.array_equal(found.boxes, alone.boxes) and np.array_equal(found.labels, alone.labels)


def test_an_empty_layout_is_its_background():
    layout = SceneLayout((400, 300), sharp=False, clean=False, whole=False)
    assert render_layout(np.random.default_rng(0), layout, NOWHERE, 320).shape == (320, 320, 3)


@pytest.mark.parametrize("size", [(30, 20), (300, 200), (900, 800)])
def test_a_print_is_drawn_exactly_where_its_matrix_says(size):
    """Check the position to half a pixel, because the boxes come from the same matrix.

    It also holds for prints that are shrunk first.
    """
    for seed in range(12):
        rng = np.random.default_rng(seed)
        quad = np.array([(20, 20), (80, 20), (80, 80), (20, 80)], np.float32) + rng.uniform(
            -12, 12, (4, 2)
        ).astype(np.float32)
        matrix = _homography(rectangle_corners(size), quad)
        canvas = np.zeros((100, 100, 3), np.uint8)
        white = PrintLayer(np.full((*size, 3), 255, np.uint8))
        _draw_print(rng, canvas, PlacedPrint(white, matrix, 0.0), matrix, 1.25)
        rows, columns = np.nonzero(canvas[..., 0] > 60)
        assert np.abs(project_points(rectangle_corners(size), matrix) - quad).max() < 1e-2
        drawn_box = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
        assert np.abs(drawn_box - np.concatenate([quad.min(0), quad.max(0)])).max() < 2.5


def _homography(source, target):
    rows = []
    for (x, y), (u, v) in zip(source, target, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
    return np.append(
        np.linalg.solve(np.array(rows, float), target.reshape(-1).astype(float)), 1
    ).reshape(3, 3)
