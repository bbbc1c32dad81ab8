"""Detections of two views and those that are kept after merging.

Image 1000 x 500; tile L is its left 600 columns, R its right 600.
"""

from time import perf_counter

import numpy as np
import pytest

from pipeline.ops.merge_views import ViewDetections, merge_detections

W, L, R = (0, 0, 1000, 500), (0, 0, 600, 500), (400, 0, 1000, 500)
TILES = {
    "W": W,
    "w": W,
    "L": L,
    "l": L,
    "R": R,
}  # small letters: the mirrored view of the same window
A, B = 1, 2  # classes


def kept(*rows, iou=0.5, union=False):
    """Rows (view, box, score, class) -> [(box, score)], best first."""
    found = ViewDetections(
        boxes_xyxy=np.array([row[1] for row in rows], dtype=float).reshape(-1, 4),
        scores=np.array([row[2] for row in rows], dtype=float),
        labels=np.array([row[3] for row in rows], dtype=int),
        view=np.array([list(TILES).index(row[0]) for row in rows], dtype=int),
        windows_xyxy=np.array([TILES[row[0]] for row in rows], dtype=float).reshape(-1, 4),
        image_hw=(500, 1000),
    )
    order, boxes, scores = merge_detections(found, iou, union)
    assert len(set(order.tolist())) == len(order) == len(boxes) == len(scores)
    together = zip(map(tuple, boxes.tolist()), scores.tolist(), order.tolist(), strict=True)
    return [(box, score) for box, score, _ in sorted(together, key=lambda one: (-one[1], one[2]))]


WHOLE = (350, 100, 550, 200)  # in L; R shows (400, 100, 550, 200) of it
PART_L, PART_R = (
    (300, 100, 600, 200),
    (400, 100, 700, 200),
)  # an object (300 .. 700) which both have cut
SMALL, AROUND = (450, 120, 480, 150), (420, 100, 580, 300)  # nested, both complete in both

TABLE = [
    ("nothing", [], []),
    ("one view alone", [("L", WHOLE, 0.9, A)], [(WHOLE, 0.9)]),
    ("equal boxes", [("L", AROUND, 0.9, A), ("R", AROUND, 0.8, A)], [(AROUND, 0.9)]),
    ("equal boxes, the second better", [("L", AROUND, 0.7, A), ("R", AROUND, 0.8, A)],
     [(AROUND, 0.8)]),
    ("whole and its part", [("L", WHOLE, 0.9, A), ("R", (400, 100, 550, 200), 0.8, A)],
     [(WHOLE, 0.9)]),
    ("a part surer than the whole", [("L", WHOLE, 0.6, A), ("R", (400, 100, 550, 200), 0.9, A)],
     [(WHOLE, 0.9)]),
    ("a sliver of the whole",
     [("L", (350, 100, 430, 200), 0.6, A), ("R", (400, 100, 430, 190), 0.9, A)],
     [((350, 100, 430, 200), 0.9)]),
    ("a part of the whole image's",
     [("W", (100, 50, 900, 450), 0.6, A), ("L", (110, 60, 599, 440), 0.9, A)],
     [((100, 50, 900, 450), 0.9)]),
    ("a crumb of the whole image's",
     [("W", (100, 50, 900, 450), 0.6, A), ("L", (500, 300, 600, 400), 0.9, A)],
     [((100, 50, 900, 450), 0.9)]),
    ("nested", [("L", AROUND, 0.9, A), ("R", SMALL, 0.8, A)], [(AROUND, 0.9), (SMALL, 0.8)]),
    ("nested in the whole image's", [("W", AROUND, 0.7, A), ("R", SMALL, 0.8, A)],
     [(SMALL, 0.8), (AROUND, 0.7)]),
    ("another class", [("L", AROUND, 0.9, A), ("R", AROUND, 0.8, B)],
     [(AROUND, 0.9), (AROUND, 0.8)]),
    ("one view, twice", [("L", AROUND, 0.9, A), ("L", AROUND, 0.8, A)],
     [(AROUND, 0.9), (AROUND, 0.8)]),
    ("a window and its mirror image", [("L", AROUND, 0.9, A), ("l", AROUND, 0.8, A)],
     [(AROUND, 0.9)]),
    ("fragments in one view", [("L", (500, 0, 600, 90), 0.9, A), ("L", (500, 10, 600, 90), 0.8, A)],
     [((500, 0, 600, 90), 0.9), ((500, 10, 600, 90), 0.8)]),
    ("neighbours", [("L", (400, 100, 500, 200), 0.9, A), ("R", (490, 100, 600, 200), 0.8, A)],
     [((400, 100, 500, 200), 0.9), ((490, 100, 600, 200), 0.8)]),
    ("apart", [("L", (0, 0, 100, 100), 0.9, A), ("R", (800, 0, 900, 100), 0.8, A)],
     [((0, 0, 100, 100), 0.9), ((800, 0, 900, 100), 0.8)]),
    ("at the image's own border nothing is cut",
     [("W", (0, 0, 400, 500), 0.6, A), ("L", (0, 0, 150, 150), 0.9, A)],
     [((0, 0, 150, 150), 0.9), ((0, 0, 400, 500), 0.6)]),
    ("without extent", [("L", (50, 50, 50, 50), 0.9, A), ("R", (450, 50, 450, 50), 0.8, A)],
     [((50, 50, 50, 50), 0.9), ((450, 50, 450, 50), 0.8)]),
]  # fmt: skip


@pytest.mark.parametrize("union", [False, True])
@pytest.mark.parametrize(("name", "rows", "expected"), TABLE, ids=[row[0] for row in TABLE])
def test_what_is_one_object_and_what_is_two(name, rows, expected, union):
    assert kept(*rows, union=union) == expected
    assert kept(*rows[::-1], union=union) == expected, "the order of the views decided"


def test_two_parts_of_a_cut_object():
    rows = [("L", PART_L, 0.7, A), ("R", PART_R, 0.9, A)]
    assert kept(*rows) == [(PART_R, 0.9)]
    assert kept(*rows, union=True) == [((300, 100, 700, 200), 0.9)]


def test_a_fragment_much_surer_than_the_whole_stands_for_it():
    whole, crumb = (100, 50, 900, 450), (500, 300, 600, 400)
    rows = [("W", whole, 0.3, A), ("L", crumb, 0.9, A)]
    assert kept(*rows) == [(crumb, 0.9)]
    assert kept(*rows, union=True) == [(whole, 0.9)]


def test_a_whole_box_takes_its_own_parts_only():
    """The part in R is also like the next object, which is not like the whole."""
    following = (520, 100, 700, 200)
    rows = [("L", WHOLE, 0.9, A), ("R", (400, 100, 700, 200), 0.5, A), ("W", following, 0.4, A)]
    for union in (False, True):
        assert kept(*rows, union=union) == [(WHOLE, 0.9), (following, 0.4)]


def test_a_whole_box_is_not_made_larger_by_its_parts():
    rows = [("L", WHOLE, 0.9, A), ("R", (400, 90, 560, 210), 0.8, A)]
    assert kept(*rows, union=True) == [(WHOLE, 0.9)]


def test_an_object_over_three_tiles_becomes_one():
    """The parts at its ends do not see each other; the middle one leads from one to the other."""
    boxes = [
        (20, 0, 98.5, 50),
        (61.5, 0, 158.5, 50),
        (121.5, 0, 180, 50),
    ]  # nearer than 2 pixels to the edges
    windows = [(0, 0, 100, 50), (60, 0, 160, 50), (120, 0, 220, 50)]
    for scores in ([0.9, 0.8, 0.7], [0.7, 0.8, 0.9], [0.7, 0.9, 0.8]):
        three = ViewDetections(
            np.array(boxes, dtype=float), np.array(scores), np.ones(3, int), np.arange(3),
            np.array(windows, dtype=float), (50, 220),
        )  # fmt: skip
        order, joined, best = merge_detections(three, 0.5, union=True)
        assert len(order) == 1
        assert joined.tolist() == [[20, 0, 180, 50]] and best.tolist() == [0.9]


@pytest.mark.parametrize(("iou", "n"), [(0.3, 1), (0.6, 2)])
def test_how_much_overlap_is_one_object_can_be_set(iou, n):
    rows = [
        ("L", (420, 100, 520, 200), 0.9, A),
        ("R", (450, 100, 550, 200), 0.8, A),
    ]  # IoU 70 / 130 = 0.54
    assert len(kept(*rows, iou=iou)) == n


@pytest.mark.parametrize("gap", [0, 5.9, -5.9])  # of a window of 600 pixels 1 % is 6
def test_a_box_that_nearly_reaches_the_edge_is_a_fragment(gap):
    big, crumb = ("W", (100, 50, 900, 450), 0.6, A), (500, 300, 600 - gap, 400)
    assert kept(big, ("L", crumb, 0.9, A)) == [(big[1], 0.9)]
    assert len(kept(big, ("L", (500, 300, 593, 400), 0.9, A))) == 2


@pytest.mark.long
def test_thousands_of_detections_take_no_minute():
    rng = np.random.default_rng(0)
    n = 3000
    corner = rng.uniform(0, 3000, (n, 2))
    found = ViewDetections(
        np.hstack([corner, corner + rng.uniform(5, 80, (n, 2))]), rng.random(n),
        rng.integers(0, 2, n),
        rng.integers(0, 49, n), np.tile([0.0, 0.0, 3100.0, 3100.0], (n, 1)), (3100, 3100),
    )  # fmt: skip
    start = perf_counter()
    order, _, _ = merge_detections(found, 0.5, union=True)
    assert perf_counter() - start < 20
    assert 0 < len(order) < n
