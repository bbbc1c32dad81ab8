import numpy as np
import pytest

from pipeline.training.synthetic.fonts_and_words import TRAINING
from pipeline.training.synthetic.label_carriers import mount_on_carrier, render_distractor
from pipeline.training.synthetic.print_layer import PrintLayer, rectangle_outline


@pytest.mark.parametrize("around", [1.0, 1.3, 3.0])
def test_what_is_mounted_is_whole_and_its_code_moves_with_it(around):
    pixels = np.full((40, 60, 3), (255, 0, 255), np.uint8)
    thing = PrintLayer(pixels, ((1, rectangle_outline(0, 0, 60, 40)),))
    for seed in range(40):
        made = mount_on_carrier(np.random.default_rng(seed), TRAINING, thing, around)
        (x0, y0), (x1, y1) = (
            made.codes[0][1].min(0).astype(int),
            made.codes[0][1].max(0).astype(int),
        )
        assert {x1 - x0, y1 - y0} == {40, 60} and (made.pixels[y0:y1, x0:x1] == (255, 0, 255)).all()


def test_a_mount_is_no_larger_than_allowed_unless_the_label_is():
    thing = PrintLayer(np.zeros((40, 60, 3), np.uint8))
    assert (
        max(mount_on_carrier(np.random.default_rng(0), TRAINING, thing, 50, largest=300).size_hw)
        <= 300
    )
    assert (
        max(mount_on_carrier(np.random.default_rng(0), TRAINING, thing, 1, largest=10).size_hw)
        >= 60
    )


def test_distractors_have_no_codes_and_differ():
    made = [render_distractor(np.random.default_rng(seed), TRAINING, 60) for seed in range(60)]
    assert (
        all(one.codes == () for one in made) and len({one.pixels.tobytes() for one in made}) == 60
    )
