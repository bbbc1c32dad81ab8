import numpy as np
import pytest

from pipeline.training.synthetic.materials import (
    fine_noise,
    mix_colours,
    random_colour,
    render_circuit_board,
    render_material,
    render_metal,
    smooth_noise,
)

SIZES = [(1, 1), (8, 200), (333, 40), (1200, 1100)]


@pytest.mark.parametrize("size_hw", SIZES)
@pytest.mark.parametrize("make", [render_material, render_metal, render_circuit_board])
def test_a_material_has_the_size_asked_for(make, size_hw):
    for seed in range(4 if size_hw[0] > 1000 else 25):
        made = make(np.random.default_rng(seed), size_hw)
        assert made.shape == (*size_hw, 3) and made.dtype == np.uint8


def test_materials_are_many():
    assert (
        len(
            {render_material(np.random.default_rng(seed), (16, 16)).tobytes() for seed in range(30)}
        )
        == 30
    )


@pytest.mark.parametrize(("low", "high"), [(0, 0), (0, 255), (200, 255)])
def test_a_colours_brightest_channel_is_in_the_range(low, high):
    rng = np.random.default_rng(0)
    found = [max(random_colour(rng, low, high)) for _ in range(50)]
    assert low - 1 <= min(found) and max(found) <= high


@pytest.mark.parametrize("size_hw", SIZES)
def test_noise_has_the_size_asked_for_and_is_centred(size_hw):
    rng = np.random.default_rng(0)
    assert smooth_noise(rng, size_hw, (3, 4)).shape == size_hw and smooth_noise(
        rng, size_hw, (3, 4), 3
    ).shape == (*size_hw, 3)
    noise = fine_noise(rng, size_hw)
    assert noise.shape == size_hw and abs(noise.mean()) < 0.5 and abs(noise).max() <= 0.5


def test_a_shade_runs_from_the_dark_to_the_light_colour():
    made = mix_colours(np.array([[0, 0.5, 1]], np.float32), (0, 10, 200), (100, 10, 0))
    assert (
        made[0, 0].tolist() == [0, 10, 200]
        and made[0, 2].tolist() == [100, 10, 0]
        and 48 <= made[0, 1, 0] <= 51
    )
