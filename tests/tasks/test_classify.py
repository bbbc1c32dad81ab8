"""Classes as rows."""

import pytest
import torch

from pipeline.core.types import Item
from pipeline.tasks.classify import Classify
from tests.helpers.pictures import spec_of

SPEC = spec_of("crane", "dog", "crane")  # ImageNet, too, has two classes of one name


def test_the_best_come_first_with_softmax_scores_and_ranks() -> None:
    task = Classify(SPEC, top_k=2)
    rows = task.make_rows(
        [{"logits": torch.tensor([0.0, 1.0, 2.0])}, {"logits": torch.tensor([9.0, 0.0, 0.0])}],
        [Item(3, "a"), Item(4, "b")],
    )
    assert rows.schema.equals(task.schema, check_metadata=True)
    assert rows["image_id"].to_pylist() == [3, 3, 4, 4]
    assert rows["rank"].to_pylist() == [1, 2, 1, 2]
    assert rows["class_id"].to_pylist()[:3] == [2, 1, 0]
    assert rows["class_name"].to_pylist()[:3] == ["crane", "dog", "crane"]
    expected = torch.tensor([0.0, 1.0, 2.0]).softmax(0)
    assert rows["score"].to_pylist()[:2] == pytest.approx([expected[2].item(), expected[1].item()])


def test_more_than_there_are_classes_is_all_of_them() -> None:
    assert (
        Classify(SPEC, top_k=10).make_rows([{"logits": torch.zeros(3)}], [Item(0, "a")]).num_rows
        == 3
    )


def test_the_overlay_lists_the_classes() -> None:
    task = Classify(SPEC, top_k=2)
    image = torch.full((3, 300, 400), 90, dtype=torch.uint8)
    drawn = task.draw(image, task.make_rows([{"logits": torch.zeros(3)}], [Item(0, "a")]))
    changed = (drawn != image).any(dim=0).nonzero()
    assert len(changed) and changed.max(dim=0).values[0] < 60, (
        "the list stands in the upper left corner"
    )
