import hashlib
import json
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors import safe_open

from pipeline.config.instantiate import instantiate
from pipeline.core.errors import ConfigError
from pipeline.core.package_files import find_resource
from pipeline.training.datasets.codes import Codes
from pipeline.training.synthetic.fonts_and_words import TRAINING
from pipeline.training.synthetic.scene import compute_truth
from tests.helpers.runs import settings_for

CODE_HASHES = """
import hashlib
from pipeline.training.datasets.codes import Codes
codes = Codes(4, 2, 320, None, 0, 10**8, "detect")
for part in (codes.training, codes.validation):
    print(hashlib.sha256(part.example(1, 3).image.numpy().tobytes()).hexdigest())
"""


def codes(
    scenes=4,
    validation_scenes=2,
    size=320,
    backgrounds=None,
    seed=0,
    max_pixels=10**8,
    task="detect",
):
    return Codes(scenes, validation_scenes, size, backgrounds, seed, max_pixels, task)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"task": "instances"}, "task=instances"),
        ({"scenes": 0}, "examples.scenes=0: expected a whole number, 1 or more"),
        ({"validation_scenes": "many"}, "examples.validation_scenes=many"),
        ({"size": 63}, "examples.size=63: expected a whole number, 64 or more"),
        ({"scenes": True}, "examples.scenes=True"),
        ({"backgrounds": "/nowhere/at/all"}, "examples.backgrounds=/nowhere/at/all: not a folder"),
    ],
)
def test_wrong_settings_are_named(wrong, message):
    with pytest.raises(ConfigError, match=message):
        codes(**wrong)


def test_a_folder_without_photographs_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("none here")
    with pytest.raises(ConfigError, match="no images in it"):
        codes(backgrounds=str(tmp_path))


def test_the_shipped_settings_build_it():
    settings = settings_for("examples=codes", "task=detect", "seed=5")
    made = instantiate(settings.components["examples"], task=settings.task)
    assert isinstance(made, Codes) and made.identity["seed"] == "5" and len(made.validation) == 400


def test_the_classes_are_those_of_the_embedded_detector():
    with safe_open(find_resource("data") / "codes.safetensors", "pt") as file:
        assert list(Codes.categories) == json.loads(file.metadata()["categories"])


def test_an_example_is_as_the_contract_says():
    part = codes(size=96).training
    assert len(part) == 4 and part.name(3) == "scene 3"
    for number in range(4):
        example = part.example(number, 0)
        boxes, labels = example.target["boxes"], example.target["labels"]
        assert example.image.shape == (3, 96, 96) and example.image.dtype == torch.uint8
        assert (
            boxes.shape == (len(labels), 4)
            and boxes.dtype == torch.float32
            and labels.dtype == torch.int64
        )
        assert boxes.numel() == 0 or (
            boxes.min() >= 0 and boxes.max() <= 96 and (boxes[:, 2:] > boxes[:, :2]).all()
        )


def test_boxes_are_those_of_the_first_epoch():
    part = codes(scenes=12).training
    for number, (size_hw, boxes) in enumerate(part.boxes()):
        assert size_hw == (320, 320)
        assert np.array_equal(boxes, part.example(number, 0).target["boxes"].numpy())


@pytest.mark.long
def test_the_same_seed_gives_the_same_pixels_in_another_process():
    made = codes()
    here = [
        hashlib.sha256(p.example(1, 3).image.numpy().tobytes()).hexdigest()
        for p in (made.training, made.validation)
    ]
    there = subprocess.run(
        [sys.executable, "-c", CODE_HASHES], check=True, capture_output=True, text=True
    )
    assert there.stdout.split() == here


def test_epochs_seeds_numbers_and_parts_differ_and_validation_stays():
    made, other = codes(), codes(seed=1)
    assert not torch.equal(made.training.example(0, 0).image, made.training.example(0, 1).image)
    assert not torch.equal(made.training.example(0, 0).image, made.training.example(1, 0).image)
    assert not torch.equal(made.training.example(0, 0).image, other.training.example(0, 0).image)
    assert not torch.equal(made.training.example(0, 0).image, made.validation.example(0, 0).image)
    assert torch.equal(made.validation.example(0, 0).image, made.validation.example(0, 7).image)


def test_an_example_set_can_be_sent_to_another_process():
    part = codes().training
    sent = pickle.loads(pickle.dumps(part))  # noqa: S301
    assert torch.equal(sent.example(2, 0).image, part.example(2, 0).image)


def test_every_class_occurs_and_some_scenes_have_none():
    found = [compute_truth((0, 0, 1, number), TRAINING, 128).labels for number in range(120)]
    assert set(np.concatenate(found).tolist()) == {1, 2, 3, 4}
    assert 0.1 < np.mean([len(labels) == 0 for labels in found]) < 0.35


def test_photographs_are_the_backgrounds_and_each_is_for_one_part_only(photos):
    made = codes(backgrounds=str(photos))
    learned, held_out = set(made.training.backgrounds.files), set(made.validation.backgrounds.files)
    assert len(learned | held_out) == 12 and not learned & held_out and held_out
    assert made.identity["backgrounds"] != codes().identity["backgrounds"]
    assert not torch.equal(made.training.example(0, 0).image, codes().training.example(0, 0).image)


@pytest.mark.parametrize("missing", ["cv2", "zxingcpp"])
def test_without_what_draws_the_extra_is_named(missing, monkeypatch):
    monkeypatch.setitem(sys.modules, missing, None)
    for name in [name for name in sys.modules if name.startswith("pipeline.training.synthetic")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(
        ConfigError, match=rf"{missing} is not installed. Install visionbatch\[train\]"
    ):
        codes()


def test_the_experiment_chooses_the_scenes_and_adds_nothing_to_them():
    settings = settings_for("experiment=codes")
    assert settings.components["examples"]["_target_"] == "pipeline.training.datasets.codes.Codes"
    assert settings.task == "detect" and settings.train.augment == []
