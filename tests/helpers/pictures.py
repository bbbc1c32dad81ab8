"""Make pictures and model descriptions for tests."""

import numpy as np
from PIL import Image

from pipeline.core.types import ModelSpec


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    """Make a picture with edges and colours, in which networks find something, unlike noise."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def photo(number: int) -> Image.Image:
    """Make a numbered picture: 160 x 200 pixels (w x h) for every third number, else 160 x 120."""
    return picture(160, 120 if number % 3 else 200, seed=number)


def spec_of(
    *categories: str, keypoint_names: tuple[str, ...] = (), embedding_dim: int = 4
) -> ModelSpec:
    """Return the description of a model of which only the class names matter."""
    return ModelSpec(
        name="any",
        outputs=frozenset(),
        categories=categories,
        weights="random",
        weights_id="random:0",
        preprocessing="none",
        keypoint_names=keypoint_names,
        embedding_dim=lambda: embedding_dim,
    )
