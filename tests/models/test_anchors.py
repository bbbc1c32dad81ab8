"""Anchors of each kind of detector, changed and read back. Networks are on the meta device."""

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models import get_model_builder

from pipeline.core.errors import ConfigError
from pipeline.models.anchor_generators import (
    compute_anchor_shapes,
    get_anchor_generator,
    read_anchors,
)
from pipeline.models.anchor_layers import apply_anchors
from pipeline.models.anchors import Anchors
from pipeline.models.networks.meta_device import use_meta_device

FPN = "fasterrcnn_mobilenet_v3_large_fpn"
OTHERS = ["maskrcnn_resnet50_fpn", "keypointrcnn_resnet50_fpn"]
RETINANET, FCOS, SSD, SSDLITE = (
    "retinanet_resnet50_fpn",
    "fcos_resnet50_fpn",
    "ssd300_vgg16",
    "ssdlite320_mobilenet_v3_large",
)


def build_on_meta(name: str, num_classes: int = 3) -> Any:
    with use_meta_device():
        return get_model_builder(name)(weights=None, weights_backbone=None, num_classes=num_classes)


@cache
def build_cached(name: str) -> Any:
    return build_on_meta(name)


def build_changed(
    name: str, sizes: Any = None, ratios: Any = None, num_classes: int = 3
) -> tuple[Any, list[str]]:
    network = build_on_meta(name, num_classes)
    with use_meta_device():
        return network, apply_anchors(
            network, Anchors.from_mapping({"sizes": sizes, "ratios": ratios}), num_classes
        )


def list_shapes(network: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(one.shape) for name, one in network.state_dict().items()}


# --- settings


@pytest.mark.parametrize(
    ("given", "expected", "words"),
    [
        ({}, Anchors(), ""),
        ({"sizes": None, "ratios": None}, Anchors(), ""),
        (
            {"sizes": [[32], [64, 90.5]]},
            Anchors(((32.0,), (64.0, 90.5))),
            "anchors.sizes=[[32],[64,90.5]]",
        ),
        ({"ratios": [0.5, 1]}, Anchors(None, (0.5, 1.0)), "anchors.ratios=[0.5,1]"),
        (
            {"sizes": [[8]], "ratios": [2]},
            Anchors(((8.0,),), (2.0,)),
            "anchors.sizes=[[8]] anchors.ratios=[2]",
        ),
    ],
)
def test_anchors_are_what_was_said(given: dict[str, Any], expected: Anchors, words: str) -> None:
    assert Anchors.from_mapping(given) == expected and bool(expected) is bool(words)
    assert expected.to_overrides() == words and Anchors.from_mapping(expected.to_dict()) == expected


@pytest.mark.parametrize(
    "given",
    [
        [],
        "sizes",
        {"size": [1]},
        {"sizes": []},
        {"sizes": [[]]},
        {"sizes": [1]},
        {"ratios": [0]},
        {"ratios": ["a"]},
    ],
)
def test_anything_else_is_an_error(given: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        Anchors.from_mapping(given)


# --- anchors of a network


@pytest.mark.parametrize("name", [FPN, *OTHERS, RETINANET, FCOS, SSD, SSDLITE])
def test_nothing_said_changes_nothing(name: str) -> None:
    network, anew = build_changed(name)
    assert anew == [] and list_shapes(network) == list_shapes(build_cached(name))
    assert read_anchors(network) == read_anchors(build_cached(name))


def test_own_anchors_are_the_builders() -> None:
    assert read_anchors(build_cached(FCOS)).sizes == ((8.0,), (16.0,), (32.0,), (64.0,), (128.0,))
    assert read_anchors(build_cached(RETINANET)).ratios == (0.5, 1.0, 2.0)
    ssd = read_anchors(build_cached(SSD))
    assert ssd.sizes is not None and [round(size) for (size,) in ssd.sizes] == [
        21,
        45,
        99,
        153,
        207,
        261,
        315,
    ]
    assert ssd.ratios == (1.0, 2.0, 0.5, 3.0, 1 / 3)
    levels = compute_anchor_shapes(build_cached(SSD))
    assert [len(level) for level in levels] == [4, 6, 6, 6, 4, 4] and levels[-1].max() <= 300
    assert levels[0][0] == pytest.approx((21, 21))


def test_a_network_without_boxes_has_none() -> None:
    with pytest.raises(ConfigError, match="Linear has no anchors"):
        get_anchor_generator(nn.Linear(1, 1))


# --- R-CNN, RetinaNet


@pytest.mark.parametrize("name", OTHERS)
def test_another_number_makes_the_proposing_layers_anew(name: str) -> None:
    network, anew = build_changed(name, [[16], [32], [64], [128], [256]], [0.1, 0.5, 1, 2])
    assert anew == ["rpn.head.cls_logits", "rpn.head.bbox_pred"]
    assert (
        network.rpn.head.cls_logits.out_channels == 4
        and network.rpn.head.bbox_pred.out_channels == 16
    )
    before, after = list_shapes(build_cached(name)), list_shapes(network)
    different = {key for key in before if before[key] != after[key]}
    assert different == {f"{layer}.{kind}" for layer in anew for kind in ("weight", "bias")}
    assert read_anchors(network) == Anchors(
        ((16.0,), (32.0,), (64.0,), (128.0,), (256.0,)), (0.1, 0.5, 1.0, 2.0)
    )


def test_the_same_number_keeps_every_layer() -> None:
    network, anew = build_changed(RETINANET, None, [0.2, 1, 5])
    assert anew == [] and read_anchors(network) == Anchors(
        read_anchors(build_cached(RETINANET)).sizes, (0.2, 1.0, 5.0)
    )


def test_retinanets_heads_take_classes_and_anchors() -> None:
    network, anew = build_changed(
        RETINANET, [[20], [40], [80], [160], [320]], [0.5, 1], num_classes=7
    )
    assert anew == ["head.classification_head.cls_logits", "head.regression_head.bbox_reg"]
    assert (
        network.head.classification_head.cls_logits.out_channels == 14
        and network.head.classification_head.num_anchors == 2
    )
    assert network.head.regression_head.bbox_reg.out_channels == 8


def test_a_new_layer_begins_as_torchvisions_does() -> None:
    network = build_on_meta(RETINANET, 2)
    torch.manual_seed(0)
    apply_anchors(
        network, Anchors(None, (1.0,)), 2
    )  # the new layers have data, the others are on the meta device
    layer = network.head.classification_head.cls_logits
    assert (
        layer.bias.detach().numpy() == pytest.approx(np.log(0.01 / 0.99))
        and 0.009 < layer.weight.std() < 0.011
    )


@pytest.mark.parametrize(
    ("name", "sizes", "ratios", "message"),
    [
        (FPN, [[32], [64]], None, "maps of 3 levels, and here are sizes for 2. Its own are"),
        (RETINANET, [[32]] * 4 + [[32, 64]], None, "every level must have as many sizes"),
        (FPN, [[1]] * 3, [0.01], "boxes without an area"),
        (FCOS, None, [1], "its anchors.sizes are its strides"),
        (FCOS, [[8, 16]] * 5, None, "one size a level"),
        (FCOS, [[8]], None, "maps of 5 levels"),
        (SSD, [[30]] * 5, None, "maps of 6 levels and takes one size for each"),
        (SSDLITE, [[30, 40]] * 6, None, "takes one size for each"),
    ],
)
def test_what_a_detector_cannot_have_is_refused(
    name: str, sizes: Any, ratios: Any, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        build_changed(name, sizes, ratios)


def test_fcos_takes_strides() -> None:
    network, anew = build_changed(FCOS, [[4], [8], [16], [32], [64]])
    assert anew == [] and compute_anchor_shapes(network)[0].tolist() == [[4, 4]]


# --- SSD


@pytest.mark.parametrize(("name", "side"), [(SSD, 300), (SSDLITE, 320)])
def test_an_ssds_sizes_are_pixels_of_its_input(name: str, side: int) -> None:
    network, anew = build_changed(name, [[20], [40], [80], [120], [180], [240]])
    assert anew == []
    assert network.anchor_generator.scales[:6] == pytest.approx(
        [one / side for one in (20, 40, 80, 120, 180, 240)]
    )
    assert network.anchor_generator.scales[6] == pytest.approx(320 / side)  # 180 : 240 = 240 : 320
    assert compute_anchor_shapes(network)[0][:2] == pytest.approx(
        np.array([[20, 20], [800**0.5] * 2])
    )


@pytest.mark.parametrize(
    ("ratios", "extra"),
    [
        ([1], []),
        ([0.5, 1, 2], [2]),
        ([5], [5]),
        ([0.33, 3, 1, 1 / 7], [3, 7]),
        ([0.5, 2, 3, 4], [2, 3, 4]),
    ],
)
@pytest.mark.parametrize("name", [SSD, SSDLITE])
def test_an_ssds_ratios_stand_and_lie_at_every_level(
    name: str, ratios: list[float], extra: list[float]
) -> None:
    network, anew = build_changed(name, None, ratios)
    assert network.anchor_generator.aspect_ratios == [pytest.approx(extra, rel=0.02)] * 6
    count = 2 + 2 * len(extra)
    kept = [
        level
        for level, shapes in enumerate(compute_anchor_shapes(build_cached(name)))
        if len(shapes) == count
    ]
    assert len(anew) == 2 * (6 - len(kept))
    last = {"classification_head": count * 3, "regression_head": count * 4}
    for head, outputs in last.items():
        for block in getattr(network.head, head).module_list:
            assert (
                block[-1] if isinstance(block, nn.Sequential) else block
            ).out_channels == outputs


def test_an_ssd_may_be_told_its_own_anchors() -> None:
    own = read_anchors(build_cached(SSDLITE))
    network, anew = build_changed(SSDLITE, own.sizes, own.ratios)
    assert anew == [] and read_anchors(network) == own


# --- in a run


@pytest.mark.parametrize(
    ("name", "anchors", "arguments"),
    [
        (
            SSDLITE,
            Anchors(((16.0,), (32.0,), (64.0,), (128.0,), (192.0,), (256.0,)), (1.0, 4.0)),
            {},
        ),
        (FPN, Anchors(((16.0, 32.0),) * 3, (0.2, 1.0)), {"min_size": 64, "max_size": 96}),
    ],
)
def test_the_changed_network_learns_and_finds(
    name: str, anchors: Anchors, arguments: dict[str, int]
) -> None:
    torch.manual_seed(0)
    network = get_model_builder(name)(
        weights=None, weights_backbone=None, num_classes=3, **arguments
    )
    apply_anchors(network, anchors, 3)
    image = torch.rand(3, 64, 96)
    target = {"boxes": torch.tensor([[10.0, 10, 60, 20]]), "labels": torch.tensor([1])}
    losses = network.train()([image, image], [target, target])
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert set(network.eval()([image])[0]) == {"boxes", "labels", "scores"}
