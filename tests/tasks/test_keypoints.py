"""Points as rows."""

import json

import pytest
import torch
from torchvision.models.detection import KeypointRCNN_ResNet50_FPN_Weights

from pipeline.core.types import Item
from pipeline.models.registry import find_format
from pipeline.tasks.keypoints import Keypoints
from tests.helpers.pictures import spec_of
from tests.helpers.runs import settings_for

NAMES = tuple(KeypointRCNN_ResNet50_FPN_Weights.DEFAULT.meta["keypoint_names"])
SPEC = spec_of("no person", "person", keypoint_names=NAMES)


def outputs(*scores: float) -> dict[str, torch.Tensor]:
    n = len(scores)
    points = torch.arange(n * 17 * 3, dtype=torch.float32).reshape(n, 17, 3)
    return {
        "boxes": torch.tensor([[0.0, 0.0, 9.0, 9.0]]).repeat(n, 1),
        "labels": torch.ones(n, dtype=torch.int64),
        "scores": torch.tensor(scores),
        "keypoints": points,
        "keypoints_scores": points[:, :, 0] / 100,
    }


def test_nobody_is_an_empty_table_of_the_schema() -> None:
    task = Keypoints(SPEC)
    rows = task.make_rows([outputs()], [Item(0, "a", (40, 50))])
    assert rows.num_rows == 0 and rows.schema.equals(task.schema, check_metadata=True)


def test_the_points_order_is_torchvisions_and_stays_with_its_box() -> None:
    task = Keypoints(SPEC)
    one = outputs(0.2, 0.9)
    rows = task.make_rows([one], [Item(0, "a", (40, 50))])
    assert json.loads(rows.schema.metadata[b"keypoint_names"]) == list(NAMES)
    for row, i in zip(rows.to_pylist(), (1, 0), strict=True):
        found = [(p["x"], p["y"], p["visibility"], p["score"]) for p in row["keypoints"]]
        expected = torch.cat([one["keypoints"][i], one["keypoints_scores"][i][:, None]], dim=1)
        assert found == [pytest.approx(point) for point in expected.tolist()]


def test_the_builder_brings_the_names_of_the_points() -> None:
    spec = find_format(settings_for("task=keypoints", "input=.")).describe()
    assert spec.keypoint_names == NAMES and spec.categories == ("no person", "person")


def test_only_points_more_likely_than_not_are_drawn() -> None:
    task = Keypoints(SPEC)
    image = torch.full((3, 300, 300), 90, dtype=torch.uint8)
    one = outputs(0.9)
    unlikely = one | {"keypoints_scores": torch.full((1, 17), -1.0)}
    with_points = task.draw(image, task.make_rows([one], [Item(0, "a", (300, 300))]))
    without = task.draw(image, task.make_rows([unlikely], [Item(0, "a", (300, 300))]))
    assert not torch.equal(with_points, without)
    assert (without[:, 60:] == 90).all(), "the box and its label alone"
