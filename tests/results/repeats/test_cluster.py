"""Places of many boxes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.ops.boxes import paired_box_iou
from pipeline.results.repeats.cluster import cluster_boxes

STONE = np.array([0.1, 0.2, 0.3, 0.5])


def shaken(n: int, box: np.ndarray = STONE, by: float = 0.002, seed: int = 0) -> np.ndarray:
    """(n, 4): a box that is nearly the same each time."""
    return box + np.random.default_rng(seed).uniform(-by, by, (n, 4))


def passing(n: int) -> np.ndarray:
    """(n, 4) boxes of the stone's size that are nowhere twice."""
    left = np.linspace(0, 0.8, n)[:, None]
    return np.concatenate([left, left / 2, left + 0.2, left / 2 + 0.3], axis=1)


def members(
    boxes: np.ndarray, least_images: int, images: np.ndarray | None = None, least_iou: float = 0.9
) -> list[list[int]]:
    found = cluster_boxes(
        boxes, np.arange(len(boxes)) if images is None else images, least_iou, least_images
    )
    return [place.members.tolist() for place in found]


@pytest.mark.parametrize(
    ("boxes", "expected"),
    [
        (np.zeros((0, 4)), []),
        (shaken(4), []),  # too few
        (shaken(5), [list(range(5))]),
        (passing(12), []),
        (np.concatenate([passing(12), shaken(6)]), [list(range(12, 18))]),
        (
            np.concatenate([shaken(5), shaken(7, STONE + 0.4)]),
            [list(range(5, 12)), list(range(5))],
        ),  # most images first
        (np.repeat(np.array([[0.5, 0.5, 0.5, 0.5]]), 5, axis=0), [list(range(5))]),  # without area
    ],
)
def test_a_place_is_where_five_images_have_a_box(
    boxes: np.ndarray, expected: list[list[int]]
) -> None:
    assert members(boxes, 5) == expected


def test_images_count_not_boxes() -> None:
    """Two boxes of one image at one place are one image."""
    images = np.repeat(np.arange(3), 2)
    assert members(shaken(6), 4, images) == [] and members(shaken(6), 3, images) == [list(range(6))]


def test_the_places_own_box_is_the_median_whichever_came_first() -> None:
    boxes = shaken(50, by=0.01)
    boxes[0] = STONE + 0.012  # at the edge of the heap, with the leftmost first
    (found,) = cluster_boxes(boxes, np.arange(50), 0.8, 20)
    assert found.box_xyxy == pytest.approx(STONE, abs=0.004) and len(found.members) == 50


BOXES = st.lists(st.tuples(*[st.integers(0, 12)] * 2, *[st.integers(1, 6)] * 2), max_size=40)


@settings(deadline=None)
@given(BOXES, st.sampled_from([0.3, 0.5, 0.9]), st.integers(2, 5))
def test_laws(sides: list[tuple[int, int, int, int]], least_iou: float, least_images: int) -> None:
    boxes = np.array([(x, y, x + w, y + h) for x, y, w, h in sides], float).reshape(-1, 4)
    found = cluster_boxes(boxes, np.arange(len(boxes)), least_iou, least_images)
    taken = [row for place in found for row in place.members.tolist()]
    assert len(taken) == len(set(taken))
    for place in found:
        assert len(place.members) >= least_images
        here = boxes[place.members]
        assert (
            paired_box_iou(here, np.broadcast_to(place.box_xyxy, here.shape)) >= least_iou
        ).all()
    # none is left: of the others no box has enough of them around it
    rest = np.setdiff1d(np.arange(len(boxes)), taken)
    for row in rest:
        near = paired_box_iou(boxes[rest], np.broadcast_to(boxes[row], (len(rest), 4))) >= least_iou
        assert near.sum() < least_images


def test_fifty_thousand_boxes_of_one_camera() -> None:
    """Neighbours only: all against all would be two thousand million pairs."""
    rng = np.random.default_rng(0)
    corner = rng.random((50_000, 2)) * 0.9
    boxes = np.concatenate([corner, corner + rng.uniform(0.01, 0.1, (50_000, 2))], axis=1)
    boxes[::100] = shaken(500)
    found = members(boxes, 200)
    assert len(found) == 1 and set(range(0, 50_000, 100)) <= set(found[0])
