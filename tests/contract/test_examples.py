"""Every training data set keeps the contract of `pipeline/training/data_protocols.py`."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.config.instantiate import instantiate
from pipeline.core.errors import ConfigError
from pipeline.core.package_files import find_resource
from pipeline.training.data_protocols import ExampleSet, TrainingData
from tests.helpers.runs import settings_for
from tests.training.made_sets import write_coco

NAMES = sorted(path.stem for path in (find_resource("conf") / "examples").glob("*.yaml"))
SMALL = {"codes": ["examples.scenes=3", "examples.validation_scenes=2", "examples.size=128"]}


def opened(name: str, folder: Path, task: str = "detect") -> TrainingData:
    data = (
        write_coco(folder / "set") if not (folder / "set").exists() else folder / "set" / "set.json"
    )
    settings = settings_for(
        f"examples={name}", f"train.data={data}", "train.validation=0.3", *SMALL.get(name, [])
    )
    found: TrainingData = instantiate(settings.components["examples"], task=task)
    return found


def same(one: ExampleSet, other: ExampleSet, number: int, epoch: int) -> bool:
    first, second = one.example(number, epoch), other.example(number, epoch)
    targets = zip(first.target.values(), second.target.values(), strict=True)
    return torch.equal(first.image, second.image) and all(torch.equal(*pair) for pair in targets)


@pytest.mark.parametrize("name", NAMES)
def test_examples_are_what_the_contract_says(name: str, tmp_path: Path) -> None:
    data = opened(name, tmp_path)
    assert (
        data.categories[0] == "__background__"
        and len(set(data.categories)) == len(data.categories) > 1
    )
    assert (
        all(isinstance(value, str) for value in data.identity.values())
        and data.keypoint_names == ()
    )
    for part in (data.training, data.validation):
        names = [part.name(number) for number in range(len(part))]
        assert len(set(names)) == len(names) > 0
        for number in range(len(part)):
            one = part.example(number, 0)
            assert (
                one.image.dtype == torch.uint8 and one.image.ndim == 3 and one.image.shape[0] == 3
            )
            boxes, labels = one.target["boxes"], one.target["labels"]
            assert (
                boxes.dtype == torch.float32
                and boxes.shape == (len(labels), 4)
                and labels.dtype == torch.int64
            )
            assert ((labels >= 1) & (labels < len(data.categories))).all()
            assert (boxes[:, 2:] > boxes[:, :2]).all() and (boxes >= 0).all()
            assert (boxes[:, 2:] <= torch.tensor(one.image.shape[:0:-1])).all()


@pytest.mark.parametrize("name", NAMES)
def test_boxes_are_those_of_the_examples(name: str, tmp_path: Path) -> None:
    part = opened(name, tmp_path).validation
    for number, (size_hw, boxes) in enumerate(part.boxes()):
        one = part.example(number, 0)
        assert tuple(one.image.shape[1:]) == tuple(size_hw) and boxes.dtype == np.float32
        np.testing.assert_allclose(boxes, one.target["boxes"].numpy(), atol=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_arguments_give_the_same_examples_everywhere(name: str, tmp_path: Path) -> None:
    data, again = opened(name, tmp_path), opened(name, tmp_path)
    assert dict(data.identity) == dict(again.identity)
    elsewhere = pickle.loads(pickle.dumps(data.training))  # noqa: S301 - our own bytes
    for number in reversed(range(len(data.training))):
        assert same(data.training, again.training, number, 1) and same(
            data.training, elsewhere, number, 1
        )


@pytest.mark.parametrize("name", NAMES)
def test_a_task_that_it_has_nothing_for_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="task=embed"):
        opened(name, tmp_path, "embed")
