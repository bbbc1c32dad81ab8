"""The two halves of a preset give the preset's own values."""

import pytest
import torch
from torch import nn
from torchvision.models import get_model, get_model_weights, list_models
from torchvision.transforms._presets import SemanticSegmentation

from pipeline.models.networks.detector import DetectorNetwork
from pipeline.models.preprocessing import Normalize, Preprocessing
from pipeline.models.torchvision_builders import get_builder_tasks

PRESETS = {  # one of each kind and setting
    repr(member.transforms()): member
    for name in list_models()
    if get_builder_tasks(name) & {"classify", "segment"}
    for member in get_model_weights(name)
}
IMAGE = torch.randint(
    0, 256, (3, 121, 87), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
)


def test_there_are_presets_to_compare() -> None:
    assert len(PRESETS) > 15


@pytest.mark.parametrize("member", PRESETS.values(), ids=str)
def test_both_halves_together_are_the_preset_bit_for_bit(member) -> None:
    preset = member.transforms()
    halves = Preprocessing.from_preset(preset)
    made = halves.resize(IMAGE)
    assert made.dtype == torch.uint8
    assert torch.equal(halves.normalize(made[None])[0], preset(IMAGE))


@pytest.mark.parametrize("member", list(PRESETS.values())[:4], ids=str)
def test_the_fast_way_is_one_level_off_at_most(member) -> None:
    halves = Preprocessing.from_preset(member.transforms())
    exact, fast = halves.resize(IMAGE), halves.fast_resize(IMAGE)
    assert fast.dtype == torch.uint8 and fast.shape == exact.shape
    assert (fast.int() - exact.int()).abs().max() <= 1


def test_an_unknown_preset_is_used_as_it_is() -> None:
    halves = Preprocessing.from_preset(nn.Flatten())
    assert (
        isinstance(halves.resize, nn.Flatten)
        and isinstance(halves.normalize, nn.Identity)
        and halves.fast_resize is None
    )


def test_float_images_are_prepared_already() -> None:
    images = torch.rand(1, 3, 4, 4)
    assert Normalize([0.5] * 3, [0.5] * 3)(images) is images


@pytest.mark.parametrize(
    "name", ["ssdlite320_mobilenet_v3_large", "fasterrcnn_mobilenet_v3_large_320_fpn"]
)
@pytest.mark.parametrize("size_hw", [(121, 87), (640, 480), (10, 900)])
def test_a_detectors_fast_way_is_one_level_off_at_most(name: str, size_hw: tuple[int, int]) -> None:
    detector = DetectorNetwork(get_model(name, weights=None, weights_backbone=None).eval())
    image = torch.randint(
        0, 256, (3, *size_hw), dtype=torch.uint8, generator=torch.Generator().manual_seed(2)
    )
    fast, exact = detector.fast_preprocess(image), detector.preprocess(image)
    mean, std = (
        torch.tensor(values)[:, None, None]
        for values in (detector.resize.image_mean, detector.resize.image_std)
    )
    assert fast.dtype == torch.uint8 and fast.shape == exact.shape
    assert (fast - (exact * std + mean) * 255).abs().max() <= 1.01


@pytest.mark.parametrize("way", ["resize", "fast_resize"])
def test_what_would_become_too_large_is_refused_before_it_is_made(way: str) -> None:
    resize = getattr(Preprocessing.from_preset(SemanticSegmentation(resize_size=520)), way)
    for height, width in ((1, 5000), (5000, 1), (100, 6300)):
        with pytest.raises(ValueError, match="too thin: with a shorter side of 520 pixels"):
            resize(torch.empty(3, height, width, dtype=torch.uint8))
    assert resize(torch.empty(3, 100, 6200, dtype=torch.uint8, device="meta")).shape == (
        3,
        520,
        32240,
    )


@pytest.mark.parametrize("size_hw", [(1, 5000), (5000, 1), (2, 3000)])
def test_a_detector_says_that_an_image_is_too_thin(size_hw: tuple[int, int]) -> None:
    detector = DetectorNetwork(
        get_model(
            "fasterrcnn_mobilenet_v3_large_320_fpn", weights=None, weights_backbone=None
        ).eval()
    )
    assert detector.compute_bucket(size_hw) == ("not resizable", size_hw)
    with pytest.raises(ValueError, match=r"too thin: .* no pixel left"):
        detector.fast_preprocess(torch.empty(3, *size_hw, dtype=torch.uint8))
    with pytest.raises(RuntimeError, match="greater than 0"):
        detector.preprocess(torch.empty(3, *size_hw, dtype=torch.uint8))
