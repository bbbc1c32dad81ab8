"""The picture of two runs' distributions."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.results.drift import plot
from pipeline.results.drift.distributions import CLASS, Distributions
from pipeline.results.drift.plot import save_distribution_plot

RNG = np.random.default_rng(0)
NOTHING = Distributions({CLASS: Counter()}, {})
ONE = Distributions({CLASS: Counter(dog=1)}, {"score": np.array([0.5]), "width": np.array([640])})
MANY = Distributions(
    {CLASS: Counter({f"class {i}": i for i in range(40)})},
    {
        "score": RNG.random(999),
        "width": np.array([640, 800]),
        "count": RNG.integers(0, 9, 50),
        "brightness": np.zeros(0),
    },
)


@pytest.mark.parametrize(
    ("reference", "new"),
    [(NOTHING, NOTHING), (ONE, ONE), (ONE, MANY), (MANY, NOTHING), (MANY, MANY)],
)
def test_a_picture_of_whatever_there_is_and_the_same_bytes_again(
    reference: Distributions, new: Distributions, tmp_path: Path
) -> None:
    for name in ("a.png", "b.png"):
        save_distribution_plot(reference, new, tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    with Image.open(tmp_path / "a.png") as image:
        n_panels = 1 + sum(
            1
            for name in reference.numbers
            if len(new.numbers.get(name, ())) and len(reference.numbers[name])
        )
        assert (
            image.size == (1260, 320 * -(-n_panels // 3))
            and len(image.convert("RGB").getcolors(1 << 20) or ()) > 2
        )


@pytest.mark.parametrize(
    ("values", "n_bins"),
    [
        (np.array([3, 4, 6]), 4),
        (np.array([5]), 1),
        (np.array([0, 4000]), 40),
        (np.array([0.1, 0.9]), 40),
    ],
)
def test_a_few_whole_numbers_have_a_bin_each(values: np.ndarray, n_bins: int) -> None:
    assert len(plot._bins(values)) == n_bins + 1


def test_no_class_is_read_as_mathematics(tmp_path: Path) -> None:
    named = Distributions({CLASS: Counter({r"$10 \frac $5": 3, "$x^{": 2})}, {})
    save_distribution_plot(named, named, tmp_path / "a.png")
    assert (tmp_path / "a.png").is_file()
