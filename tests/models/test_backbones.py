"""Faster R-CNN on classifiers whose maps are found. All networks but one are on the meta device."""

from functools import cache

import pytest
import torch
from torch import Tensor
from torchvision.models import get_model_builder

from pipeline.core.errors import ConfigError
from pipeline.models.backbone_weights import copy_backbone_tensors, load_backbone_state
from pipeline.models.backbones import PyramidBackbone, build_fasterrcnn, get_builder
from pipeline.models.feature_maps import find_feature_maps, list_classifiers
from pipeline.models.networks.meta_device import use_meta_device
from pipeline.models.torchvision_builders import (
    FASTERRCNN,
    check_builder,
    find_weights_member,
    get_builder_tasks,
)

# One classifier of each family: channels of its maps by stride.
FAMILIES = {
    "alexnet": {4: 64, 8: 192, 16: 256, 32: 256},
    "convnext_tiny": {4: 96, 8: 192, 16: 384, 32: 768},
    "densenet121": {4: 256, 8: 512, 16: 1024, 32: 1024},
    "efficientnet_b0": {4: 24, 8: 40, 16: 112, 32: 1280},
    "efficientnet_v2_s": {4: 48, 8: 64, 16: 160, 32: 1280},
    "googlenet": {4: 192, 8: 480, 16: 832, 32: 1024},
    "inception_v3": {4: 192, 8: 288, 16: 768, 32: 2048},
    "mnasnet0_5": {4: 16, 8: 24, 16: 48, 32: 1280},
    "mobilenet_v2": {4: 24, 8: 32, 16: 96, 32: 1280},
    "mobilenet_v3_small": {4: 16, 8: 24, 16: 48, 32: 576},
    "regnet_y_400mf": {4: 48, 8: 104, 16: 208, 32: 440},
    "resnet18": {4: 64, 8: 128, 16: 256, 32: 512},
    "shufflenet_v2_x0_5": {4: 24, 8: 48, 16: 96, 32: 1024},
    "squeezenet1_0": {4: 256, 8: 512, 16: 512},
    "swin_t": {4: 96, 8: 192, 16: 384, 32: 768},
    "swin_v2_t": {4: 96, 8: 192, 16: 384, 32: 768},
    "vgg11": {4: 256, 8: 512, 16: 512, 32: 512},
}


@cache
def build_on_meta(backbone: str) -> torch.nn.Module:
    with use_meta_device():
        return build_fasterrcnn(backbone=backbone, num_classes=3).eval()


@pytest.mark.parametrize("backbone", FAMILIES)
def test_the_maps_and_their_channels_are_found(backbone: str) -> None:
    assert {one.stride: one.channels for one in find_feature_maps(backbone)} == FAMILIES[backbone]


@pytest.mark.parametrize("backbone", FAMILIES)
def test_the_pyramid_gives_maps_of_one_width_at_its_strides(backbone: str) -> None:
    network = build_on_meta(backbone)
    with torch.no_grad():
        maps = network.backbone(torch.empty(1, 3, 256, 384, device="meta"))
    assert [*maps] == [*map(str, range(len(FAMILIES[backbone]))), "pool"]
    assert {one.shape[1] for one in maps.values()} == {256}
    finest = maps["0"].shape
    assert 256 / finest[2] == pytest.approx(4, rel=0.1) and 384 / finest[3] == pytest.approx(
        4, rel=0.1
    )
    assert len(network.rpn.anchor_generator.sizes) == len(maps)


@pytest.mark.parametrize("backbone", FAMILIES)
def test_the_parameters_keep_the_classifiers_names(backbone: str) -> None:
    arguments = {"init_weights": True} if backbone in ("googlenet", "inception_v3") else {}
    with use_meta_device():
        classifier = get_model_builder(backbone)(weights=None, **arguments)
    own = {name: one.shape for name, one in classifier.state_dict().items()}
    body = {
        name: one.shape for name, one in build_on_meta(backbone).backbone.body.state_dict().items()
    }
    assert body and body.items() <= own.items()
    assert set(own) - set(body)  # the head is gone


@pytest.mark.parametrize(
    ("backbone", "message"),
    [
        ("vit_b_16", "one size only, or gives maps of one stride only"),
        ("maxvit_t", "one size only"),
        ("mobilenetv2", "torchvision has no classifier of this name. Did you mean 'mobilenet_v2'"),
        ("fasterrcnn_resnet50_fpn", "no classifier"),
        ("quantized_resnet18", "no classifier"),
        ("", "no classifier"),
    ],
)
def test_what_has_no_pyramid_is_refused(backbone: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        find_feature_maps(backbone)


def test_all_classifiers_are_offered_and_nothing_else() -> None:
    assert {"resnet18", "swin_t", "vit_b_16"} <= set(list_classifiers())
    assert not {"fcn_resnet50", "r3d_18", "quantized_resnet18", FASTERRCNN} & set(
        list_classifiers()
    )


def test_a_classifiers_weights_find_their_places() -> None:
    torch.manual_seed(0)
    state = get_model_builder("mobilenet_v2")(weights=None).state_dict()
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = build_fasterrcnn(backbone="mobilenet_v2", num_classes=2, min_size=64, max_size=96)
    taken = copy_backbone_tensors(network, state)
    body = network.backbone.body.state_dict()  # type: ignore[union-attr]
    assert taken == len(body) == len(state) - 2  # all but the head's weight and bias
    assert all(torch.equal(one, state[name]) for name, one in body.items())
    losses = network.train()(
        [torch.rand(3, 64, 64)],
        [{"boxes": torch.tensor([[4.0, 4, 30, 30]]), "labels": torch.tensor([1])}],
    )
    assert all(torch.isfinite(loss) for loss in losses.values())


def test_torchvisions_own_detectors_take_them_too() -> None:
    with use_meta_device():
        network = get_model_builder("fasterrcnn_mobilenet_v3_large_fpn")(
            weights=None, weights_backbone=None
        )
        state = get_model_builder("mobilenet_v3_large")(weights=None).state_dict()
    assert copy_backbone_tensors(network, state) == len(network.backbone.body.state_dict())


@pytest.mark.parametrize(
    ("state", "has"),
    [
        ({}, "no tensor of this name"),
        ({"fc.weight": torch.zeros(2)}, "no tensor of this name"),
        ({"conv1.weight": torch.zeros(1)}, r"shape \(1,\)"),
    ],
)
def test_another_networks_weights_are_refused(state: dict[str, Tensor], has: str) -> None:
    with pytest.raises(ConfigError, match=f"another network's.*conv1.weight.*{has}"):
        copy_backbone_tensors(build_on_meta("resnet18"), state)


def test_random_backbones_have_no_state() -> None:
    assert load_backbone_state("resnet18", "random") is None
    with pytest.raises(
        ConfigError, match=r"train.backbone_weights=nowhere.pth: there is no such file"
    ):
        load_backbone_state("resnet18", "nowhere.pth")
    with pytest.raises(
        ConfigError, match=r"train.backbone_weights=COCO_V1: resnet18 has no weights of this name"
    ):
        load_backbone_state("resnet18", "COCO_V1")


def test_it_is_one_of_the_builders() -> None:
    assert get_builder(FASTERRCNN) is build_fasterrcnn and get_builder_tasks(FASTERRCNN) == {
        "detect"
    }
    assert (
        str(find_weights_member(FASTERRCNN, "DEFAULT")) == "FasterRCNN_ResNet50_FPN_Weights.COCO_V1"
    )
    check_builder(FASTERRCNN, "detect", other_models=[])
    with pytest.raises(ConfigError, match="cannot do task=classify"):
        check_builder(FASTERRCNN, "classify", other_models=[])


def test_channels_last_maps_are_turned() -> None:
    assert [one.channels_last for one in find_feature_maps("swin_t")] == [True, True, True, False]
    assert not any(one.channels_last for one in find_feature_maps("convnext_tiny"))
    pyramid = build_on_meta("swin_t").backbone
    assert isinstance(pyramid, PyramidBackbone) and pyramid.out_channels == 256
