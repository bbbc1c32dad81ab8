import numpy as np
import pytest

from pipeline.training.synthetic.curvature import apply_wrinkles, warp_onto_cylinder
from pipeline.training.synthetic.print_layer import PrintLayer, rectangle_outline


def flat():
    """Return a white rectangle on black. After bending, its outline must follow its pixels."""
    pixels = np.zeros((160, 200, 3), np.uint8)
    pixels[50:110, 60:150] = 255
    return PrintLayer(pixels, ((2, rectangle_outline(60, 50, 150, 110)),))


@pytest.mark.parametrize("bend", [warp_onto_cylinder, apply_wrinkles])
@pytest.mark.parametrize("seed", range(12))
def test_the_outline_follows_the_pixels(bend, seed):
    made = bend(np.random.default_rng(seed), flat())
    rows, columns = np.nonzero((made.pixels[..., 0] > 25) & (made.alpha > 128))
    ((label, points),) = made.codes
    expected = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
    assert label == 2 and made.alpha.shape == made.size_hw
    assert np.abs(np.concatenate([points.min(0), points.max(0)]) - expected).max() <= 7


@pytest.mark.parametrize("bend", [warp_onto_cylinder, apply_wrinkles])
def test_a_print_without_codes_and_with_holes_bends_too(bend):
    alpha = np.zeros((160, 200), np.uint8)
    made = bend(np.random.default_rng(0), PrintLayer(flat().pixels, (), alpha))
    assert made.codes == () and made.alpha.max() == 0
