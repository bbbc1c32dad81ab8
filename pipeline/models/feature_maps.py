"""Find the feature maps of a torchvision classifier, to use it as a detector's backbone."""

import math
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import get_model_builder, list_models

from pipeline.core.errors import ConfigError, suggest_nearest
from pipeline.models.networks.meta_device import use_meta_device
from pipeline.models.torchvision_builders import (
    builder_takes_clips,
    get_builder_outputs,
    is_quantized,
)

STRIDES = (4, 8, 16, 32)  # pixels of the input per step in a map
_PROBE_HW = (512, 768)  # two different sides, so that channels are not mistaken for a side
_AS_PUBLISHED = {  # without heads for training, and with the inputs that published weights expect
    name: {"aux_logits": False, "init_weights": True, "transform_input": True}
    for name in ("googlenet", "inception_v3")
}


@dataclass(frozen=True)
class FeatureMap:
    """A feature map of one stride, and the module that returns it.

    Several modules may return a map of this stride. `module` is the outermost of them; of several
    at the same depth, it is the last.
    """

    module: str
    stride: int
    channels: int
    channels_last: bool  # (B, h, w, C), as the blocks of Swin give it


def list_classifiers() -> list[str]:
    """Return the names of torchvision's classifiers in floating point."""
    return [
        name
        for name in list_models()
        if "logits" in get_builder_outputs(name)
        and not builder_takes_clips(name)
        and not is_quantized(name)
    ]


def build_classifier(name: str) -> nn.Module:
    """Build a torchvision classifier with random weights."""
    network: nn.Module = get_model_builder(name)(weights=None, **_AS_PUBLISHED.get(name, {}))
    return network


@cache
def find_feature_maps(backbone: str) -> tuple[FeatureMap, ...]:
    """Find a classifier's maps by running it on the meta device, finest map first.

    Raises:
        ConfigError: There is no classifier of this name, it takes images of one size only, or its
            maps do not halve from one stride to the next.
    """
    if backbone not in (known := list_classifiers()):
        raise ConfigError(
            f"backbone={backbone}: torchvision has no classifier of this name."
            f"{suggest_nearest(backbone, known)} Expected one whose maps shrink, such as "
            "mobilenet_v2, resnet18, efficientnet_b0 or convnext_tiny."
        )

    with use_meta_device():
        network = build_classifier(backbone).eval()
    try:
        maps_by_stride = _record_maps(network)
    except (AssertionError, RuntimeError, ValueError) as error:
        raise ConfigError(
            f"backbone={backbone} takes images of one size only, or gives maps of one stride only "
            f"({error}); a detector's images have many sizes. Choose one such as mobilenet_v2, "
            "resnet18, efficientnet_b0, convnext_tiny or swin_t."
        ) from None

    strides = [stride for stride in STRIDES if stride in maps_by_stride]
    if len(strides) < 2 or any(after != 2 * before for before, after in pairwise(strides)):
        raise ConfigError(
            f"backbone={backbone} has maps of stride "
            f"{', '.join(map(str, strides)) or 'none of 4 to 32'}; a feature pyramid needs "
            "several, each half as fine as the one before. Choose one such as mobilenet_v2, "
            "resnet18 or swin_t."
        )
    return tuple(maps_by_stride[stride] for stride in strides)


def _record_maps(network: nn.Module) -> dict[int, FeatureMap]:
    """Run the network once and return the map of each stride."""
    maps_by_stride: dict[int, FeatureMap] = {}

    def record(name: str, output: Any) -> None:
        found = _parse_map(name, output)
        if found is None:
            return
        known = maps_by_stride.get(found.stride)
        if known is None or name.count(".") <= known.module.count("."):
            maps_by_stride[found.stride] = found

    for name, module in network.named_modules():
        if name:
            module.register_forward_hook(
                lambda module, inputs, output, name=name: record(name, output)
            )
    with torch.no_grad():
        network(torch.empty(1, 3, *_PROBE_HW, device="meta"))
    return maps_by_stride


def _parse_map(name: str, output: Any) -> FeatureMap | None:
    """Describe a module's output as a map; None if it is not a map of a stride in `STRIDES`.

    The output may be (1, C, h, w) or (1, h, w, C). The layout whose sides have the proportions of
    the input is the right one.
    """
    if not isinstance(output, Tensor) or output.dim() != 4 or output.shape[0] != 1:
        return None
    _, first, second, third = output.shape
    layouts = [
        (_measure_misfit(second, third), False, second, first),
        (_measure_misfit(first, second), True, first, third),
    ]
    misfit, channels_last, height, channels = min(layouts)
    stride = 2 ** round(math.log2(_PROBE_HW[0] / height))
    if misfit >= 1 or stride not in STRIDES:
        return None
    return FeatureMap(name, stride, channels, channels_last)


def _measure_misfit(height: int, width: int) -> float:
    """Return how far the sides are from the input's sides divided by one power of two.

    The unit is octaves. The result is infinite where the two sides fit different powers.
    """
    octaves = [
        math.log2(side / probe) for side, probe in zip((height, width), _PROBE_HW, strict=True)
    ]
    if len({round(octave) for octave in octaves}) != 1:
        return math.inf
    return sum(abs(octave - round(octave)) for octave in octaves)
