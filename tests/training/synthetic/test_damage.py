import numpy as np

from pipeline.training.synthetic.damage import apply_wear
from pipeline.training.synthetic.print_layer import PrintLayer, rectangle_outline


def test_some_prints_wear_and_keep_their_codes_and_the_given_pixels_stay():
    pixels = np.full((60, 80, 3), 200, np.uint8)
    pixels[20:40, 20:60] = 10
    thing = PrintLayer(pixels.copy(), ((1, rectangle_outline(20, 20, 60, 40)),))
    made = [apply_wear(np.random.default_rng(seed), thing) for seed in range(80)]
    changed = [one for one in made if not np.array_equal(one.pixels, pixels)]
    assert np.array_equal(thing.pixels, pixels) and 10 <= len(changed) <= 40
    assert all(
        one.codes is thing.codes
        and one.pixels.shape == pixels.shape
        and one.pixels.dtype == np.uint8
        for one in made
    )
    # on the whole the code is still darker than its ground
    assert (
        np.mean([one.pixels[20:40, 20:60].mean() < one.pixels[:15].mean() for one in changed]) > 0.9
    )
