"""Faster R-CNN on any torchvision classifier whose feature maps shrink."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torchvision.models import get_model_builder, get_model_weights
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.feature_extraction import create_feature_extractor
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from pipeline.models.feature_maps import FeatureMap, build_classifier, find_feature_maps
from pipeline.models.torchvision_builders import FASTERRCNN

_PYRAMID_CHANNELS = 256  # as in torchvision's builders


def get_builder(name: str) -> Callable[..., Any]:
    """Return the function that builds a network: one of torchvision's, or `build_fasterrcnn`."""
    if name == FASTERRCNN:
        return build_fasterrcnn
    return get_model_builder(name)


def build_fasterrcnn(
    *, backbone: str, num_classes: int = 91, weights: None = None, **kwargs: Any
) -> FasterRCNN:
    """Build an untrained Faster R-CNN with a feature pyramid on a classifier.

    The classifier's parameters keep their names below `backbone.body`, and its BatchNorm layers
    stay as they are.

    Args:
        backbone: Name of a torchvision classifier.
        num_classes: Number of classes, background included.
        weights: Always None, because there are no published weights. torchvision's builders have
            this argument too.
        **kwargs: Arguments of `torchvision.models.detection.FasterRCNN`.

    Raises:
        ConfigError: The classifier's maps cannot be used.
    """
    maps = find_feature_maps(backbone)
    strides = [feature_map.stride for feature_map in maps]
    generator = kwargs.pop("rpn_anchor_generator", None) or AnchorGenerator(
        tuple((8 * stride,) for stride in [*strides, 2 * strides[-1]]),
        ((0.5, 1.0, 2.0),) * (len(maps) + 1),
    )
    names = [str(level) for level in range(len(maps))]
    pool = kwargs.pop("box_roi_pool", None) or MultiScaleRoIAlign(
        featmap_names=names, output_size=7, sampling_ratio=2
    )
    mean, std = _get_normalization(backbone)
    return FasterRCNN(
        PyramidBackbone(build_classifier(backbone), maps),
        num_classes,
        rpn_anchor_generator=generator,
        box_roi_pool=pool,
        **({"image_mean": mean, "image_std": std} | kwargs),
    )


class PyramidBackbone(nn.Module):
    """Feature pyramid on a classifier: (B, 3, H, W) -> {name: (B, out_channels, h, w)}.

    The map `0` is the finest, `pool` the coarsest.
    """

    def __init__(self, classifier: nn.Module, maps: tuple[FeatureMap, ...]) -> None:
        super().__init__()
        nodes = {feature_map.module: str(level) for level, feature_map in enumerate(maps)}
        # The feature extractor leaves out the layers behind the last map.
        self.body = create_feature_extractor(classifier, nodes, suppress_diff_warning=True)
        self.fpn = FeaturePyramidNetwork(
            [feature_map.channels for feature_map in maps],
            _PYRAMID_CHANNELS,
            extra_blocks=LastLevelMaxPool(),
        )
        self.out_channels = _PYRAMID_CHANNELS
        self._channels_last = frozenset(
            str(level) for level, feature_map in enumerate(maps) if feature_map.channels_last
        )

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        maps = self.body(images)
        return self.fpn(
            {
                name: values.permute(0, 3, 1, 2).contiguous()
                if name in self._channels_last
                else values
                for name, values in maps.items()
            }
        )


def _get_normalization(name: str) -> tuple[list[float], list[float]]:
    """Return the mean and the standard deviation that the classifier's inputs are normalised by."""
    transform = get_model_weights(name).DEFAULT.transforms()
    return list(transform.mean), list(transform.std)
