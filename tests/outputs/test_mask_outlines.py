"""Outlines enclose the pixels of a mask and no others."""

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from pipeline.outputs.mask_outlines import trace_outline


def fill(outline: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    runs = coco_mask.merge(coco_mask.frPyObjects([outline.ravel().tolist()], *size_hw))
    return coco_mask.decode(runs).astype(bool)


def test_an_empty_mask_has_no_outline() -> None:
    assert trace_outline(np.zeros((3, 4), bool)).shape == (0, 2)


def test_a_rectangle_has_eight_corners() -> None:
    mask = np.zeros((20, 30), bool)
    mask[5:9, 10:25] = True
    outline = trace_outline(mask)
    assert len(outline) == 8
    assert outline.min(axis=0).tolist() == [10, 5] and outline.max(axis=0).tolist() == [25, 9]


@pytest.mark.parametrize("share", [0.02, 0.5, 0.98, 1])
@pytest.mark.parametrize("size_hw", [(1, 1), (1, 9), (20, 30), (64, 48)])
def test_any_mask_comes_back(share: float, size_hw: tuple[int, int]) -> None:
    mask = np.random.default_rng(0).random(size_hw) < share
    mask[0, 0] = True
    assert np.array_equal(fill(trace_outline(mask), size_hw), mask)
