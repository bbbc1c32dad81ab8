"""Give a detector other anchors, and the layers that fit their number."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torchvision.models.detection import FasterRCNN, RetinaNet
from torchvision.models.detection.ssd import SSD

from pipeline.models.anchor_generators import build_anchor_generator
from pipeline.models.anchors import Anchors

_OBJECT_PRIOR = 0.01  # torchvision's RetinaNet expects an object at one place in a hundred


def apply_anchors(network: nn.Module, anchors: Anchors, num_classes: int) -> list[str]:
    """Change the detector's anchors in place.

    Where the number of anchors per location changes, the layers that score and refine them are
    replaced by new ones, initialised as torchvision does it.

    Returns:
        The names of the layers that were replaced.

    Raises:
        ConfigError: The network cannot have these anchors.
    """
    generator = build_anchor_generator(network, anchors)
    counts = generator.num_anchors_per_location()
    if isinstance(network, FasterRCNN):
        network.rpn.anchor_generator = generator
        return _resize_rpn(network.rpn.head, counts[0])

    network.anchor_generator = generator
    if isinstance(network, SSD):
        return _resize_ssd(network.head, counts, num_classes)
    if isinstance(network, RetinaNet):
        return _resize_retinanet(network.head, counts[0], num_classes)
    return []  # FCOS has one anchor per location


def _resize_rpn(head: Any, count: int) -> list[str]:
    if head.cls_logits.out_channels == count:
        return []
    head.cls_logits = _replace_conv(head.cls_logits, count, 0.01)
    head.bbox_pred = _replace_conv(head.bbox_pred, 4 * count, 0.01)
    return ["rpn.head.cls_logits", "rpn.head.bbox_pred"]


def _resize_retinanet(head: Any, count: int, num_classes: int) -> list[str]:
    scores, boxes = head.classification_head, head.regression_head
    if scores.num_anchors == count:
        return []
    bias = float(torch.logit(torch.tensor(_OBJECT_PRIOR)))
    scores.cls_logits = _replace_conv(scores.cls_logits, count * num_classes, 0.01, bias=bias)
    boxes.bbox_reg = _replace_conv(boxes.bbox_reg, count * 4, 0.01)
    scores.num_anchors = count
    return ["head.classification_head.cls_logits", "head.regression_head.bbox_reg"]


def _resize_ssd(head: Any, counts: Sequence[int], num_classes: int) -> list[str]:
    """Replace the last convolution of each level and kind.

    SSDlite has a depthwise convolution before it, which stays.
    """
    replaced = []
    for level, count in enumerate(counts):
        for name, columns in (("classification_head", num_classes), ("regression_head", 4)):
            layers = getattr(head, name).module_list
            is_lite = isinstance(layers[level], nn.Sequential)
            last = layers[level][-1] if is_lite else layers[level]
            if last.out_channels == count * columns:
                continue

            conv = _replace_conv(last, count * columns, 0.03 if is_lite else None)
            if is_lite:
                layers[level][-1] = conv
            else:
                layers[level] = conv
            replaced.append(f"head.{name}.module_list.{level}")
    return replaced


def _replace_conv(
    conv: nn.Conv2d, out_channels: int, std: float | None, bias: float = 0.0
) -> nn.Conv2d:
    """Return a new convolution like `conv` with another number of outputs.

    Args:
        conv: The convolution whose kernel, stride and padding are kept.
        out_channels: The number of outputs.
        std: Standard deviation of the normal weights; None: Xavier's uniform weights.
        bias: Value of the biases.
    """
    kernel: Any = conv.kernel_size
    new = nn.Conv2d(
        conv.in_channels,
        out_channels,
        kernel,
        stride=conv.stride,  # type: ignore[arg-type]
        padding=conv.padding,  # type: ignore[arg-type]
    )
    if std is None:
        nn.init.xavier_uniform_(new.weight)
    else:
        nn.init.normal_(new.weight, std=std)
    if new.bias is not None:
        nn.init.constant_(new.bias, bias)
    return new
