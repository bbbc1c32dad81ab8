"""Arrays of many images as one."""

import pickle
from typing import Any

import numpy as np
import pytest

from pipeline.training.examples.packed_arrays import PackedArrays, PackedMasks


def polygon(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


RUNS = {"size": [2, 2], "counts": [0, 4]}


@pytest.mark.parametrize("lengths", [[], [0], [2], [0, 3, 0, 1]])
def test_each_image_has_its_own(lengths: list[int]) -> None:
    parts = [np.full((length, 4), i, np.float32) for i, length in enumerate(lengths)]
    column = pickle.loads(pickle.dumps(PackedArrays(parts)))  # noqa: S301 - our own bytes
    assert [column[i].tolist() for i in range(len(parts))] == [part.tolist() for part in parts]


@pytest.mark.parametrize(
    "images",
    [
        [],
        [()],
        [((polygon(1, 2, 3, 4, 5, 6),),), ()],
        [
            (),
            ((polygon(1, 2, 3, 4, 5, 6), polygon(7, 8, 9, 10, 11, 12, 13, 14)), RUNS),
            ((polygon(*range(6)),),),
        ],
    ],
)
def test_masks_of_each_image(images: list[Any]) -> None:
    column = pickle.loads(pickle.dumps(PackedMasks(images)))  # noqa: S301
    for i, masks in enumerate(images):
        assert len(column[i]) == len(masks)
        for found, mask in zip(column[i], masks, strict=True):
            if isinstance(mask, dict):
                assert found == mask
            else:
                assert [one.tolist() for one in found] == [one.tolist() for one in mask]


def test_what_images_do_not_have_is_none() -> None:
    assert (
        PackedArrays.from_optional([None, None]) is None
        and PackedMasks.from_optional([None]) is None
    )
    assert (
        PackedArrays.from_optional([np.zeros(2)]) is not None
        and PackedMasks.from_optional([()]) is not None
    )
