import numpy as np
import pytest

from pipeline.core.types import InputError
from pipeline.training.synthetic.backgrounds import Backgrounds


@pytest.mark.parametrize("whole", [True, False])
def test_a_crop_has_the_size_asked_for(photos, whole):
    for files in ((), tuple(map(str, sorted(photos.iterdir())))):
        for seed in range(20):
            made = Backgrounds(files, 10**8).crop(np.random.default_rng(seed), (50, 70), whole)
            assert made.shape == (50, 70, 3) and made.dtype == np.uint8


def test_each_photograph_is_for_training_or_for_validation():
    every = Backgrounds(tuple(map(str, range(20))), 1)
    held_out, learned = every.validation_part().files, every.training_part().files
    assert len(held_out) == 3 and sorted(held_out + learned) == sorted(every.files)


def test_a_file_that_is_no_photograph_is_an_input_error(tmp_path):
    (tmp_path / "a.jpg").write_text("no photograph")
    behind = Backgrounds((str(tmp_path / "a.jpg"),), 10**8)
    with pytest.raises(InputError):
        for seed in range(40):
            behind.crop(np.random.default_rng(seed), (8, 8))
