"""Freezing the first stages of a backbone, which are found from its feature maps."""

import pytest
import torch
from torchvision.models import get_model
from torchvision.models.detection import fasterrcnn_mobilenet_v3_large_320_fpn

from pipeline.core.errors import ConfigError
from pipeline.training.freezing import FrozenLayers, default_frozen_stages, find_stages


def stages_by_name(network):
    names = {module: name for name, module in network.named_modules()}
    return {names[module]: stage for module, stage in find_stages(network).items()}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "resnet18",
            {
                "conv1": 1,
                "layer1.0.conv1": 2,
                "layer2.0.conv1": 3,
                "layer3.1.conv2": 4,
                "layer4.1.bn2": 5,
            },
        ),
        ("mobilenet_v2", {"features.0.0": 1, "features.2.conv.1.0": 2, "features.18.0": 5}),
        (
            "swin_t",
            {
                "features.0.0": 2,
                "features.1.0.attn.qkv": 2,
                "features.3.0.attn.qkv": 3,
                "features.7.1.mlp.0": 5,
            },
        ),
        ("vit_b_16", {"conv_proj": 4, "encoder.layers.encoder_layer_3.mlp.0": 4}),
        ("vgg11_bn", {"features.0": 1, "features.4": 1}),
    ],
)
def test_the_stage_of_a_layer_is_the_size_of_its_maps(name, expected):
    with torch.device("meta"):
        network = get_model(name, weights=None)
    found = stages_by_name(network)
    assert {layer: found[layer] for layer in expected} == expected
    assert list(found.values()) == sorted(found.values())


def test_the_head_and_the_pyramid_are_no_part_of_the_backbone():
    classifier = get_model("resnet18", weights=None)
    assert classifier.fc not in find_stages(classifier)
    detector = fasterrcnn_mobilenet_v3_large_320_fpn(weights=None, weights_backbone=None)
    found = stages_by_name(detector)
    assert found and all(name.startswith("backbone.body.") for name in found)


def test_what_is_frozen_has_no_gradients_and_keeps_its_statistics():
    network = get_model("resnet18", weights=None)
    frozen = FrozenLayers(network, 3)
    network.train()
    frozen.apply()
    learning = {name.split(".")[0] for name, one in network.named_parameters() if one.requires_grad}
    assert learning == {"layer3", "layer4", "fc"}
    before = network.layer2[0].bn1.running_mean.clone(), network.layer3[0].bn1.running_mean.clone()
    network(torch.rand(2, 3, 64, 64))
    assert network.layer2[0].bn1.running_mean.equal(before[0])
    assert not network.layer3[0].bn1.running_mean.equal(before[1])


def test_statistics_alone_can_be_kept():
    network = get_model("resnet18", weights=None)
    frozen = FrozenLayers(network, 0, keep_statistics=True)
    network.train()
    frozen.apply()
    before = network.layer4[0].bn1.running_mean.clone()
    network(torch.rand(2, 3, 64, 64))
    assert network.layer4[0].bn1.running_mean.equal(before)
    assert all(one.requires_grad for one in network.parameters())


def test_nothing_is_frozen_by_0():
    network = get_model("resnet18", weights=None)
    assert FrozenLayers(network, 0).modules == []
    assert all(one.requires_grad for one in network.parameters())


@pytest.mark.parametrize(("name", "stages"), [("resnet18", 2), ("swin_t", 2), ("vit_b_16", 0)])
def test_a_vit_has_no_early_stages_to_freeze(name, stages):
    with torch.device("meta"):
        assert default_frozen_stages(get_model(name, weights=None)) == stages


@pytest.mark.parametrize(
    ("name", "stages", "message"),
    [
        ("resnet18", 6, r"expected 0 \(nothing is frozen\) to 5"),
        ("vit_b_16", 2, "Its first stage is 4; say that, or 0"),
    ],
)
def test_numbers_that_freeze_nothing_are_refused(name, stages, message):
    with torch.device("meta"):
        network = get_model(name, weights=None)
    with pytest.raises(ConfigError, match=message):
        FrozenLayers(network, stages)
