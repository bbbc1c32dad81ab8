import numpy as np
import pytest

from pipeline.training.scenes.camera import jpeg, photographed


def picture():
    return np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)


@pytest.mark.parametrize("strength", [0.0, 0.3, 1.0])
def test_a_photograph_keeps_its_size_and_type(strength):
    for seed in range(60):
        made = photographed(np.random.default_rng(seed), picture(), strength)
        assert made.shape == (48, 64, 3) and made.dtype == np.uint8


def test_a_picture_is_not_changed_in_place_and_mostly_changed():
    given = picture()
    made = [photographed(np.random.default_rng(seed), given) for seed in range(40)]
    assert np.array_equal(given, picture())
    assert sum(not np.array_equal(one, given) for one in made) > 35


def test_light_and_lens_leave_geometry_alone():
    """A bright square stays where it is: boxes depend on it."""
    given = np.zeros((120, 120, 3), np.uint8)
    given[40:80, 30:90] = 220
    for seed in range(60):
        made = photographed(np.random.default_rng(seed), given).astype(float).mean(2)
        weight = np.clip(made - (made[:20].mean() + made[-20:].mean()) / 2 - 25, 0, None)
        if weight[40:80, 30:90].mean() > 40 and weight[:20].max() < 25:  # neither in the dark nor in a reflection
            y, x = (np.average(np.arange(120), weights=weight.sum(axis) + 1e-9) for axis in (1, 0))
            assert abs(y - 59.5) < 6 and abs(x - 59.5) < 9


def test_jpeg_keeps_colours():
    red = np.full((32, 32, 3), (200, 30, 60), np.uint8)
    assert np.abs(jpeg(np.random.default_rng(0), red).astype(int) - red).max() < 12
