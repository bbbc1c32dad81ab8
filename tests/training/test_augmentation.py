"""Augmentation keeps annotations on their objects, and only the seed decides its random values."""

import pickle
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.training.augmentation import Augmentation
from pipeline.training.data_protocols import Example

ALL = ["flip", "crop", "colour"]
POINTS = ("nose", "left_eye", "right_eye")
BACKGROUND = torch.tensor([90, 90, 90], dtype=torch.uint8)
COLOURS = torch.tensor(
    [[250, 20, 20], [20, 250, 20], [20, 20, 250]], dtype=torch.uint8
)  # of the classes 1, 2, 3
BOXES = ((10, 12, 50, 60), (60, 20, 110, 44), (70, 60, 116, 90))


def make_scene(
    task: str = "detect",
    size_hw: tuple[int, int] = (96, 120),
    boxes: tuple[tuple[int, ...], ...] = BOXES,
) -> Example:
    """Make an image of rectangles in the colours of their classes.

    Keypoints are the top left corner (left_eye), the top right (right_eye) and the middle (nose).
    """
    image = BACKGROUND[:, None, None].repeat(1, *size_hw)
    masks = torch.zeros(len(boxes), *size_hw, dtype=torch.uint8)
    for i, (x_min, y_min, x_max, y_max) in enumerate(boxes):
        image[:, y_min:y_max, x_min:x_max] = COLOURS[i][:, None, None]
        masks[i, y_min:y_max, x_min:x_max] = 1
    labels = torch.arange(1, len(boxes) + 1)
    box_tensor = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    if task == "classify":
        return Example(image, {"label": torch.tensor(2)})
    if task == "segment":
        return Example(image, {"mask": (masks * labels[:, None, None]).sum(dim=0)})
    target: dict[str, Tensor] = {"boxes": box_tensor, "labels": labels}
    if task == "instances":
        target["masks"] = masks
    if task == "keypoints":
        x_min, y_min, x_max, y_max = box_tensor.unbind(1)
        corners = [
            ((x_min + x_max) / 2, (y_min + y_max) / 2),
            (x_min + 1, y_min + 1),
            (x_max - 1, y_min + 1),
        ]
        points = [torch.stack([x, y, torch.full_like(x, 2)], dim=-1) for x, y in corners]
        target["keypoints"] = torch.stack(points, dim=1)
    return Example(image, target)


def find_boxes(image: Tensor) -> dict[int, list[int]]:
    """Return the box around the colour of each class that is visible."""
    box_of = {}
    for i, colour in enumerate(COLOURS):
        rows, columns = torch.where((image == colour[:, None, None]).all(dim=0))
        if len(rows):
            box_of[i + 1] = [
                int(columns.min()),
                int(rows.min()),
                int(columns.max()) + 1,
                int(rows.max()) + 1,
            ]
    return box_of


def is_same(first: Example, second: Example) -> bool:
    targets = zip(first.target.values(), second.target.values(), strict=True)
    return torch.equal(first.image, second.image) and all(torch.equal(*pair) for pair in targets)


def describe_target(target: Mapping[str, Tensor]) -> dict[str, Any]:
    return {name: (value.dtype, value.ndim) for name, value in target.items()}


# --- objects


@pytest.mark.parametrize("task", ["detect", "instances", "keypoints"])
def test_boxes_stay_around_what_they_are_about(task: str) -> None:
    augment = Augmentation.for_training(task, ["flip", "crop"], keypoint_names=POINTS)
    cropped = left_out = 0
    for seed in range(60):
        before = make_scene(task)
        after = augment(before, seed)
        visible = find_boxes(after.image)
        for label, box in zip(
            after.target["labels"].tolist(), after.target["boxes"].tolist(), strict=True
        ):
            assert box == visible.pop(label)
        whole = {
            i + 1: (x_max - x_min) * (y_max - y_min)
            for i, (x_min, y_min, x_max, y_max) in enumerate(BOXES)
        }
        for label, (
            x_min,
            y_min,
            x_max,
            y_max,
        ) in visible.items():  # what is seen of those that are no objects any more
            assert (x_max - x_min) * (y_max - y_min) <= 0.2 * whole[label]
        assert len(after.target["labels"]) > 0 and describe_target(after.target) == describe_target(
            before.target
        )
        cropped += after.image.shape != before.image.shape
        left_out += len(after.target["labels"]) < 3
    assert cropped > 20 and left_out > 5


def test_boxes_that_are_cut_show_most_of_their_object() -> None:
    augment, parts = Augmentation.for_training("detect", ["crop"]), []
    for seed in range(80):
        after = augment(make_scene(), seed)
        for label, (x_min, y_min, x_max, y_max) in zip(
            after.target["labels"].tolist(), after.target["boxes"].tolist(), strict=True
        ):
            left, top, right, bottom = BOXES[label - 1]
            parts.append((x_max - x_min) * (y_max - y_min) / ((right - left) * (bottom - top)))
    assert min(parts) >= 0.6 and any(part < 1 for part in parts)


def test_masks_go_with_their_boxes() -> None:
    augment = Augmentation.for_training("instances", ["flip", "crop"])
    for seed in range(40):
        after = augment(make_scene("instances"), seed)
        assert after.target["masks"].shape == (len(after.target["labels"]), *after.image.shape[1:])
        for label, mask in zip(after.target["labels"].tolist(), after.target["masks"], strict=True):
            assert torch.equal(
                mask.bool(), (after.image == COLOURS[label - 1][:, None, None]).all(dim=0)
            )


def test_an_object_that_is_cut_has_the_box_of_its_mask() -> None:
    """A crop may leave only one bar of an L."""
    before = make_scene("instances", boxes=BOXES[:1])
    x_min, y_min, x_max, y_max = BOXES[0]
    before.target["masks"][0, y_min : y_max - 8, x_min + 8 : x_max] = 0
    before.image[:, y_min : y_max - 8, x_min + 8 : x_max] = 90
    augment, bars = Augmentation.for_training("instances", ["crop"]), 0
    for seed in range(300):
        after = augment(before, seed)
        for box in find_boxes(after.image).values():
            sides = box[2] - box[0], box[3] - box[1]
            assert after.target["boxes"].tolist() == ([box] if min(sides) > 1 else [])
            bars += sides[1] == 8
    assert bars > 0


def test_keypoints_stay_on_their_object() -> None:
    augment, unlabelled = (
        Augmentation.for_training("keypoints", ["flip", "crop"], keypoint_names=POINTS),
        0,
    )
    for seed in range(60):
        after = augment(make_scene("keypoints"), seed)
        for label, points in zip(
            after.target["labels"].tolist(), after.target["keypoints"], strict=True
        ):
            nose, left, right = points
            for x, y, visibility in (nose, left, right):
                unlabelled += int(visibility == 0)
                if visibility == 0:
                    assert (x, y) == (0, 0)
                else:
                    row, column = (
                        min(int(y), after.image.shape[1] - 1),
                        min(int(x), after.image.shape[2] - 1),
                    )
                    assert torch.equal(after.image[:, row, column], COLOURS[label - 1])
            if left[2] and right[2]:
                assert left[0] < right[0]  # also in a mirror image
    assert unlabelled > 0


def test_a_mirror_image_exchanges_left_and_right() -> None:
    augment, before = (
        Augmentation.for_training("keypoints", ["flip"], keypoint_names=POINTS),
        make_scene("keypoints", boxes=BOXES[:1]),
    )
    before.target["keypoints"][0, 0] = 0  # not labelled
    results = [augment(before, seed) for seed in range(20)]
    kept = [one for one in results if is_same(one, before)]
    (mirrored,) = {
        tuple(map(tuple, one.target["keypoints"][0].tolist()))
        for one in results
        if not is_same(one, before)
    }
    assert 0 < len(kept) < 20
    assert mirrored == (
        (0, 0, 0),
        (120 - 49, 13, 2),
        (120 - 11, 13, 2),
    )  # what was right_eye is left_eye


def test_names_must_be_those_of_the_keypoints() -> None:
    with pytest.raises(ValueError, match="0 names of keypoints for 3"):
        for seed in range(20):
            Augmentation.for_training("keypoints", ["flip"])(make_scene("keypoints"), seed)


@pytest.mark.parametrize("task", ["detect", "instances", "keypoints"])
def test_images_without_objects(task: str) -> None:
    augment, sizes = Augmentation.for_training(task, ALL, keypoint_names=POINTS), set()
    for seed in range(20):
        before = make_scene(task, boxes=())
        after = augment(before, seed)
        sizes.add(after.image.shape)
        assert describe_target(after.target) == describe_target(before.target) and after.target[
            "boxes"
        ].shape == (
            0,
            4,
        )
        if task == "instances":
            assert after.target["masks"].shape == (0, *after.image.shape[1:])
    assert len(sizes) > 5


@pytest.mark.parametrize("size_hw", [(1, 1), (1, 50), (3, 2)])
def test_tiny_images(size_hw: tuple[int, int]) -> None:
    augment = Augmentation.for_training("detect", ALL)
    for seed in range(10):
        after = augment(make_scene(size_hw=size_hw, boxes=((0, 0, *size_hw[::-1]),)), seed)
        assert min(after.image.shape) >= 1 and len(after.target["boxes"]) == 1


# --- whole images


@pytest.mark.parametrize("names", [[], ["flip"], ALL])
@pytest.mark.parametrize("size_hw", [(96, 120), (40, 200), (20, 20)])
def test_images_to_classify_get_one_size(names: list[str], size_hw: tuple[int, int]) -> None:
    augment = Augmentation.for_training("classify", names, crop_hw=(48, 56), resize=60)
    after = augment(make_scene("classify", size_hw, ()), 5)
    assert (
        after.image.shape == (3, 48, 56)
        and after.image.dtype == torch.uint8
        and after.target["label"] == 2
    )


def test_without_a_crop_an_image_is_prepared_as_by_the_weights_preset() -> None:
    from torchvision.transforms import functional

    image = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 90, 70), dtype=np.uint8))
    example = Example(image, {"label": torch.tensor(0)})
    expected = functional.center_crop(functional.resize(image, [64], antialias=True), [56, 56])
    for augment in (
        Augmentation.for_training("classify", [], (56, 56), resize=64),
        Augmentation.for_validation("classify", (56, 56), 64),
    ):
        assert (augment(example, 0).image.int() - expected.int()).abs().max() <= 1


@pytest.mark.parametrize("names", [[], ALL])
@pytest.mark.parametrize("size_hw", [(96, 120), (30, 200), (20, 20)])
def test_pixels_keep_their_classes(names: list[str], size_hw: tuple[int, int]) -> None:
    boxes = ((0, 0, 10, 9), (12, 2, 19, 18)) if size_hw == (20, 20) else ((20, 4, 60, 25),)
    augment = Augmentation.for_training(
        "segment", [name for name in names if name != "colour"], (64, 72), resize=50
    )
    for seed in range(15):
        after = augment(make_scene("segment", size_hw, boxes), seed)
        mask = after.target["mask"]
        assert (
            after.image.shape == (3, 64, 72)
            and mask.shape == (64, 72)
            and mask.dtype == torch.int64
        )
        padded = mask == 255
        assert (after.image[:, padded] == torch.tensor([[124], [116], [104]])).all()
        for label, colour in ((1, COLOURS[0]), (2, COLOURS[1])):
            exact = (after.image == colour[:, None, None]).all(dim=0)  # not where colours mix
            assert (mask[exact] == label).float().mean() > 0.9 if exact.any() else True
        assert set(mask.unique().tolist()) <= {0, 1, 2, 255}


def test_for_validation_segmentation_keeps_its_shape() -> None:
    after = Augmentation.for_validation("segment", (64, 64), 48)(make_scene("segment"), 0)
    assert after.image.shape == (3, 48, 60) and after.target["mask"].shape == (48, 60)


@pytest.mark.parametrize("task", ["detect", "instances", "keypoints"])
def test_for_validation_detectors_get_images_as_they_are(task: str) -> None:
    before = make_scene(task)
    assert is_same(Augmentation.for_validation(task)(before, 3), before)


@pytest.mark.parametrize("task", ["classify", "segment"])
def test_a_crop_has_a_size(task: str) -> None:
    with pytest.raises(ValueError, match="crop needs the size"):
        Augmentation.for_training(task, ["crop"])


# --- chance

TASKS = ["detect", "instances", "keypoints", "segment", "classify"]


def whole(task: str) -> Augmentation:
    return Augmentation.for_training(task, ALL, crop_hw=(40, 40), keypoint_names=POINTS, resize=50)


@pytest.mark.parametrize("task", TASKS)
def test_a_seed_gives_one_example_whatever_came_before(task: str) -> None:
    augment, before = whole(task), make_scene(task)
    first = augment(before, 7)
    torch.rand(3)
    augment(before, 8)
    assert is_same(augment(before, 7), first) and is_same(before, make_scene(task))
    assert is_same(pickle.loads(pickle.dumps(augment))(before, 7), first)  # noqa: S301 - our own bytes
    others = [augment(before, seed).image for seed in range(5)]
    assert (
        sum(one.shape == first.image.shape and torch.equal(one, first.image) for one in others) <= 1
    )


def test_the_process_keeps_its_own_chance() -> None:
    torch.manual_seed(1)
    expected = torch.rand(4)
    torch.manual_seed(1)
    whole("detect")(make_scene(), 3)
    assert torch.equal(torch.rand(4), expected)


@pytest.mark.parametrize("task", TASKS)
def test_what_comes_out_are_plain_tensors(task: str) -> None:
    after = whole(task)(make_scene(task), 1)
    assert {type(one) for one in (after.image, *after.target.values())} == {Tensor}


def test_channels_are_in_the_networks_order() -> None:
    example = make_scene()
    for made in (Augmentation.for_validation("detect"), Augmentation.for_training("detect", [])):
        assert made.with_channels("rgb")(example, 0).image.equal(example.image)
        assert made.with_channels("bgr")(example, 0).image.equal(example.image.flip(0))


def test_colours_change_mildly() -> None:
    augment, before = Augmentation.for_training("detect", ["colour"]), make_scene()
    changes = [
        (augment(before, seed).image.float() - before.image.float()).abs().mean()
        for seed in range(10)
    ]
    assert all(1 < change < 60 for change in changes)
