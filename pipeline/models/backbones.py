"""Faster R-CNN on any torchvision classifier whose maps shrink. Its maps and their channels are found, not written down."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import get_model_builder, get_model_weights, list_models
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.feature_extraction import create_feature_extractor
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from pipeline.core.errors import ConfigError, suggest_nearest
from pipeline.models.networks.meta_device import use_meta_device
from pipeline.models.registry import (
    FASTERRCNN,
    builder_takes_clips,
    find_weights_member,
    get_builder_outputs,
    is_quantized,
    is_weights_file,
)
from pipeline.models.weights import (
    WEIGHTS_FILES,
    fetch_official_file,
    read_state_dict,
    resolve_file,
)

STRIDES = (4, 8, 16, 32)  # pixels of the input between two places of a map
_CHANNELS = 256  # of the pyramid, as in torchvision's builders
_TRIED_HW = (512, 768)  # sides that differ, so that channels are not taken for one of them
_LEAST_TAKEN = 0.5  # of the backbone's tensors: a file with fewer is another network's
_AS_PUBLISHED = {  # no heads for training, and the inputs as the published weights want them
    name: {"aux_logits": False, "init_weights": True, "transform_input": True}
    for name in ("googlenet", "inception_v3")
}


@dataclass(frozen=True)
class FeatureMap:
    """The map of one stride: of the modules that give such a map the outermost, and of these the last."""

    module: str
    stride: int
    channels: int
    channels_last: bool  # (B, h, w, C), as Swin's blocks give it


def list_classifiers() -> list[str]:
    """Names of torchvision's classifiers in floating point."""
    return [
        name
        for name in list_models()
        if "logits" in get_builder_outputs(name)
        and not builder_takes_clips(name)
        and not is_quantized(name)
    ]


def build_fasterrcnn(
    *, backbone: str, num_classes: int = 91, weights: None = None, **kwargs: Any
) -> FasterRCNN:
    """An untrained Faster R-CNN with a feature pyramid on the classifier `backbone`, whose parameters keep their names below
    `backbone.body`; BatchNorms are the classifier's. There are no published `weights`. As with torchvision's builders
    `kwargs` are the class's own. Raises ConfigError."""
    maps = find_feature_maps(backbone)
    strides = [one.stride for one in maps]
    generator = kwargs.pop("rpn_anchor_generator", None) or AnchorGenerator(
        tuple((8 * stride,) for stride in [*strides, 2 * strides[-1]]),
        ((0.5, 1.0, 2.0),) * (len(maps) + 1),
    )
    names = [str(level) for level in range(len(maps))]
    pool = kwargs.pop("box_roi_pool", None) or MultiScaleRoIAlign(
        featmap_names=names, output_size=7, sampling_ratio=2
    )
    mean, std = _normalisation(backbone)
    return FasterRCNN(
        PyramidBackbone(_classifier(backbone), maps),
        num_classes,
        rpn_anchor_generator=generator,
        box_roi_pool=pool,
        **({"image_mean": mean, "image_std": std} | kwargs),
    )


class PyramidBackbone(nn.Module):
    """(B, 3, H, W) -> the pyramid's maps by name, `0` the finest, `pool` the coarsest; each has `out_channels`."""

    def __init__(self, classifier: nn.Module, maps: tuple[FeatureMap, ...]) -> None:
        super().__init__()
        nodes = {one.module: str(level) for level, one in enumerate(maps)}
        # what is behind the last map is left out
        self.body = create_feature_extractor(classifier, nodes, suppress_diff_warning=True)
        self.fpn = FeaturePyramidNetwork(
            [one.channels for one in maps], _CHANNELS, extra_blocks=LastLevelMaxPool()
        )
        self.out_channels = _CHANNELS
        self._channels_last = frozenset(
            str(level) for level, one in enumerate(maps) if one.channels_last
        )

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        maps = self.body(images)
        return self.fpn(
            {
                name: one.permute(0, 3, 1, 2).contiguous() if name in self._channels_last else one
                for name, one in maps.items()
            }
        )


@cache
def find_feature_maps(backbone: str) -> tuple[FeatureMap, ...]:
    """The classifier's maps, finest first, seen while it runs on a tensor without data. Raises ConfigError for a name that
    is not a classifier's, one that takes images of one size only, and one whose maps do not shrink."""
    if backbone not in list_classifiers():
        raise ConfigError(
            f"backbone={backbone}: torchvision has no classifier of this name.{suggest_nearest(backbone, list_classifiers())} "
            "Expected one whose maps shrink, such as mobilenet_v2, resnet18, efficientnet_b0 or convnext_tiny."
        )
    with use_meta_device():
        network = _classifier(backbone).eval()
    found: dict[int, FeatureMap] = {}

    def note(name: str, output: Any) -> None:
        one = _as_map(name, output)
        if one and (
            one.stride not in found or name.count(".") <= found[one.stride].module.count(".")
        ):
            found[one.stride] = one

    for name, module in network.named_modules():
        if name:
            module.register_forward_hook(
                lambda module, inputs, output, name=name: note(name, output)
            )
    try:
        with torch.no_grad():
            network(torch.empty(1, 3, *_TRIED_HW, device="meta"))
    except (AssertionError, RuntimeError, ValueError) as error:
        raise ConfigError(
            f"backbone={backbone} takes images of one size only, or gives maps of one stride only ({error}); a detector's "
            "images have many sizes. Choose one such as mobilenet_v2, resnet18, efficientnet_b0, convnext_tiny or swin_t."
        ) from None
    maps = tuple(found[stride] for stride in STRIDES if stride in found)
    steps = [stride for stride in STRIDES if stride in found]
    if len(maps) < 2 or any(after != 2 * before for before, after in pairwise(steps)):
        raise ConfigError(
            f"backbone={backbone} has maps of stride {', '.join(map(str, steps)) or 'none of 4 to 32'}; a feature pyramid "
            "needs several, each half as fine as the one before. Choose one such as mobilenet_v2, resnet18 or swin_t."
        )
    return maps


def copy_backbone_tensors(network: nn.Module, state: Mapping[str, Tensor]) -> int:
    """Copy a classifier's tensors into the detector's backbone, by name and shape; the classifier's head has no place there.
    Returns how many were taken. Raises ConfigError where it is another network's."""
    backbone: Any = network.backbone
    body: nn.Module = getattr(backbone, "body", backbone)
    own = body.state_dict()
    given = {name: _named_as(state, name) for name in own}
    fitting = {
        name: one for name, one in given.items() if one is not None and one.shape == own[name].shape
    }
    least = _LEAST_TAKEN * sum(one.dim() > 0 for one in own.values())
    if sum(one.dim() > 0 for one in fitting.values()) < max(1.0, least):
        missing = next((name for name in own if name not in fitting), "")
        tensor = given.get(missing)
        has = "no tensor of this name" if tensor is None else f"shape {tuple(tensor.shape)}"
        raise ConfigError(
            f"These backbone weights are another network's: {len(fitting)} of the backbone's {len(own)} tensors fit. For "
            f"example {missing}, {tuple(own[missing].shape) if missing else ''}: they have {has}."
        )
    body.load_state_dict(fitting, strict=False)
    return len(fitting)


def load_backbone_state(backbone: str, given: str) -> Mapping[str, Tensor] | None:
    """The state_dict of a classifier for `load_backbone`: of its weights DEFAULT or by name, downloaded where they are not
    on this machine, or of a file; None for `random`. Raises ConfigError."""
    if given == "random":
        return None
    if is_weights_file(given):
        return read_state_dict(resolve_file(given, WEIGHTS_FILES, key="train.backbone_weights"))
    member = find_weights_member(backbone, given, key="train.backbone_weights")
    fetch_official_file(member)
    return get_model_builder(backbone)(
        weights=member
    ).state_dict()  # by the builder, which knows how old files name things


def _named_as(state: Mapping[str, Tensor], name: str) -> Tensor | None:
    """torchvision's detectors on MobileNet keep its `features` alone, without that name."""
    return state.get(name, state.get(f"features.{name}"))


def _classifier(name: str) -> nn.Module:
    network: nn.Module = get_model_builder(name)(weights=None, **_AS_PUBLISHED.get(name, {}))
    return network


def _normalisation(name: str) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of the inputs that the classifier's published weights were trained with."""
    transform = get_model_weights(name).DEFAULT.transforms()
    return list(transform.mean), list(transform.std)


def _as_map(name: str, output: Any) -> FeatureMap | None:
    """(1, C, h, w) or (1, h, w, C): whichever has sides in the proportion of the input, with a stride of those wanted."""
    if not isinstance(output, Tensor) or output.dim() != 4 or output.shape[0] != 1:
        return None
    _, first, second, third = output.shape
    read = [(_off(second, third), False, second, first), (_off(first, second), True, first, third)]
    off, channels_last, height, channels = min(read)
    stride = 2 ** round(math.log2(_TRIED_HW[0] / height))
    return (
        FeatureMap(name, stride, channels, channels_last) if off < 1 and stride in STRIDES else None
    )


def _off(height: int, width: int) -> float:
    """How far these sides are from a map of a whole power of two, in octaves; infinite where the sides' powers differ."""
    octaves = [
        math.log2(side / most) for side, most in zip((height, width), _TRIED_HW, strict=True)
    ]
    whole = {round(one) for one in octaves}
    return sum(abs(one - round(one)) for one in octaves) if len(whole) == 1 else math.inf


def get_builder(name: str) -> Callable[..., Any]:
    """Return the function that builds a network: one of torchvision's, or `fasterrcnn` above."""
    if name == FASTERRCNN:
        return build_fasterrcnn
    return get_model_builder(name)
