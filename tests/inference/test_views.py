"""Views of an image: tile windows, mirror images, and merging the outputs of all views."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from pipeline.core.errors import PipelineError
from pipeline.core.types import View
from pipeline.inference.views import (
    Views,
    crop_view,
    make_tile_windows,
    move_to_image_frame,
)

# --- tile windows


@pytest.mark.parametrize("overlap", [0.0, 0.2, 0.25, 0.5, 0.9])
@pytest.mark.parametrize(
    "size_hw", [(3000, 4000), (641, 100), (640, 641), (1, 5000), (65, 64), (997, 1009)]
)
@pytest.mark.parametrize("tile", [64, 333, 640])
def test_tiles_are_equal_cover_every_pixel_and_overlap_as_asked(size_hw, tile, overlap):
    windows = make_tile_windows(size_hw, tile, overlap)
    height, width = size_hw
    assert len(set(windows)) == len(windows)
    assert {(x1 - x0, y1 - y0) for x0, y0, x1, y1 in windows} == {
        (min(tile, width), min(tile, height))
    }
    for first, last, side in ((0, 2, width), (1, 3, height)):
        spans = sorted({(window[first], window[last]) for window in windows})
        assert spans[0][0] == 0 and spans[-1][1] == side
        for (_, end), (start, _) in pairwise(spans):
            assert end - start >= overlap * tile and start <= end
    columns, rows = {window[::2] for window in windows}, {window[1::2] for window in windows}
    assert len(windows) == len(columns) * len(rows)  # every column in every row


def test_tiles_are_spread_evenly_and_no_more_than_needed():
    assert [window[0] for window in make_tile_windows((640, 4000), 640, 0.25)] == [
        0,
        480,
        960,
        1440,
        1920,
        2400,
        2880,
        3360,
    ]
    assert len(make_tile_windows((3000, 4000), 640, 0.25)) == 8 * 6
    assert make_tile_windows((640, 641), 640, 0.25) == [(0, 0, 640, 640), (1, 0, 641, 640)]


@pytest.mark.parametrize(
    ("views", "size_hw", "expected"),
    [
        (Views(), (3000, 4000), [View((0, 0, 4000, 3000))]),
        (
            Views(tile=100),
            (100, 100),
            [View((0, 0, 100, 100))],
        ),  # the image is no larger than the tile
        (Views(tile=100), (1, 1), [View((0, 0, 1, 1))]),
        (Views(flip=True), (20, 30), [View((0, 0, 30, 20)), View((0, 0, 30, 20), True)]),
        (
            Views(tile=40, overlap=0.5),
            (40, 60),
            [View((0, 0, 60, 40)), View((0, 0, 40, 40)), View((20, 0, 60, 40))],
        ),
    ],
)
def test_an_images_views_begin_with_the_whole(views, size_hw, expected):
    assert list(views.list_views(size_hw)) == expected


def test_with_both_every_window_is_mirrored_too():
    found = Views(tile=40, flip=True).list_views((40, 60))
    assert [view.mirrored for view in found] == [False, True] * 3
    assert [view.window_xyxy for view in found[::2]] == [view.window_xyxy for view in found[1::2]]


@pytest.mark.parametrize("shape", [(3, 8, 12), (5, 3, 8, 12)])
def test_a_view_shows_its_window_of_an_image_or_clip(shape):
    pixels = torch.arange(np.prod(shape)).reshape(shape).to(torch.uint8)
    assert torch.equal(crop_view(pixels, View((2, 1, 7, 8))), pixels[..., 1:8, 2:7])
    assert torch.equal(crop_view(pixels, View((2, 1, 7, 8), True)), pixels[..., 1:8, 2:7].flip(-1))
    assert crop_view(pixels, View((0, 0, 12, 8))) is pixels, "the whole image was copied"


# --- from the view's frame to the image's

NAMES = ("nose", "left_eye", "right_eye", "left_ear", "middle", "left_")
WINDOW = (100, 50, 200, 130)  # 100 x 80


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_detection_returns_to_its_place(mirrored):
    """The object is at (110, 60, 130, 100). The output of a mirrored view is a mirror image."""
    view = View(WINDOW, mirrored)
    box = [70.0, 10.0, 90.0, 50.0] if mirrored else [10.0, 10.0, 30.0, 50.0]
    points = torch.tensor(
        [[[12.0, 20.0, 1.0], [14.0, 21.0, 1.0], [28.0, 22.0, 0.0]]]
    )  # nose, left_eye, right_eye
    scores = torch.tensor([[5.0, 6.0, 7.0]])
    mask = torch.arange(28.0).expand(1, 1, 28, 28) / 28  # grows to the right
    seen = {
        "boxes": torch.tensor([box]),
        "labels": torch.tensor([3]),
        "scores": torch.tensor([0.5]),
    }
    if mirrored:  # in a mirror the eye on the other side is the left one
        points = points[:, [0, 2, 1]] * torch.tensor([-1.0, 1.0, 1.0]) + torch.tensor(
            [100.0, 0.0, 0.0]
        )
        scores, mask = scores[:, [0, 2, 1]], mask.flip(-1)
    given = seen | {"keypoints": points, "keypoints_scores": scores, "masks": mask}
    before = {name: value.clone() for name, value in given.items()}
    found = move_to_image_frame(given, view, NAMES[:3])
    assert found["boxes"].tolist() == [[110, 60, 130, 100]]
    assert found["keypoints"].tolist() == [[[112, 70, 1], [114, 71, 1], [128, 72, 0]]]
    assert found["keypoints_scores"].tolist() == [[5, 6, 7]]
    assert torch.equal(found["masks"], torch.arange(28.0).expand(1, 1, 28, 28) / 28)
    assert found["labels"].tolist() == [3] and found["scores"].tolist() == [0.5]
    assert all(torch.equal(given[name], value) for name, value in before.items()), (
        "the model's own tensors were changed"
    )


# --- merging


def detections(*rows):
    """Make a view's output from rows (x_min, y_min, x_max, y_max, score, label)."""
    table = torch.tensor(rows, dtype=torch.float32).reshape(-1, 6)
    return {"boxes": table[:, :4], "scores": table[:, 4], "labels": table[:, 5].long()}


def test_a_single_view_is_handed_through():
    answer = detections((1, 2, 3, 4, 0.5, 1))
    assert Views().merge([answer], Views().list_views((10, 10))) is answer


def test_no_detections_in_any_view():
    views = Views(tile=40, flip=True)
    shown = views.list_views((40, 60))
    merged = views.merge([detections()] * len(shown), shown)
    assert (
        merged["boxes"].shape == (0, 4)
        and merged["scores"].shape == (0,)
        and merged["labels"].dtype == torch.int64
    )


def test_what_belongs_to_a_detection_stays_with_it():
    """The second of two views is mirrored. It shows the same object better, and another one."""
    views = Views(flip=True, keypoint_names=("left_a", "right_a"))
    first, second = (
        detections((10, 10, 20, 20, 0.6, 1)),
        detections((40, 10, 50, 20, 0.9, 1), (0, 0, 10, 10, 0.3, 1)),
    )
    for one, value in ((first, 1.0), (second, 2.0)):
        n = len(one["scores"])
        one["masks"] = torch.full((n, 1, 28, 28), value)
        one["keypoints"] = torch.zeros(n, 2, 3)
        one["keypoints_scores"] = torch.tensor([[value, -value]]).repeat(n, 1)
    merged = views.merge([first, second], views.list_views((40, 60)))
    assert merged["boxes"].tolist() == [[10, 10, 20, 20], [50, 0, 60, 10]]
    np.testing.assert_allclose(merged["scores"], [0.9, 0.3])
    assert merged["masks"][:, 0, 0, 0].tolist() == [2, 2]
    assert merged["keypoints"][:, 0, 0].tolist() == [60, 60]
    assert merged["keypoints_scores"].tolist() == [[-2, 2], [-2, 2]]


def test_probabilities_not_logits_are_averaged():
    one, other = torch.tensor([0.0, 3.0, -200.0]), torch.tensor([1.0, -1.0, 0.5])
    merged = Views(flip=True).merge(
        [{"logits": one}, {"logits": other}], Views(flip=True).list_views((4, 4))
    )
    expected = (one.softmax(0) + other.softmax(0)) / 2
    torch.testing.assert_close(merged["logits"].exp(), expected)
    torch.testing.assert_close(merged["logits"].softmax(0), expected)


def test_vectors_are_averaged_and_maps_mirrored_back_first():
    map_of = torch.arange(12.0).reshape(1, 3, 4)
    answers = [
        {"embedding": torch.tensor([1.0, 2.0]), "probabilities": map_of},
        {"embedding": torch.tensor([3.0, 6.0]), "probabilities": map_of.flip(-1) + 2},
    ]
    merged = Views(flip=True).merge(answers, Views(flip=True).list_views((3, 4)))
    assert merged["embedding"].tolist() == [2, 4]
    assert torch.equal(merged["probabilities"], map_of + 1)


def test_an_output_without_a_rule_is_refused_by_name():
    with pytest.raises(PipelineError, match="'depth'"):
        Views(flip=True).merge([{"depth": torch.zeros(1)}] * 2, Views(flip=True).list_views((3, 4)))
