import numpy as np
import pytest

from pipeline.training.synthetic.camera import _apply_blur, compress_as_jpeg, photograph


def picture():
    return np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)


@pytest.mark.parametrize("strength", [0.0, 0.3, 1.0])
def test_a_photograph_keeps_its_size_and_type(strength):
    for seed in range(60):
        made = photograph(np.random.default_rng(seed), picture(), strength)
        assert made.shape == (48, 64, 3) and made.dtype == np.uint8


def test_a_picture_is_not_changed_in_place_and_mostly_changed():
    given = picture()
    made = [photograph(np.random.default_rng(seed), given) for seed in range(40)]
    assert np.array_equal(given, picture())
    assert sum(not np.array_equal(one, given) for one in made) > 35


@pytest.mark.parametrize("seed", range(30))
def test_a_blurred_square_stays_where_it_is(seed):
    """The boxes are right only if the blur does not move pixels."""
    given = np.zeros((120, 120, 3), np.uint8)
    given[40:80, 30:90] = 220
    made = _apply_blur(np.random.default_rng(seed), given, 1.0, 9.0).astype(float).mean(2)
    centre = [np.average(np.arange(120), weights=made.sum(axis)) for axis in (1, 0)]
    assert np.abs(np.array(centre) - 59.5).max() < 0.7


def test_jpeg_keeps_colours():
    red = np.full((32, 32, 3), (200, 30, 60), np.uint8)
    assert np.abs(compress_as_jpeg(np.random.default_rng(0), red).astype(int) - red).max() < 12
