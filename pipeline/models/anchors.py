"""Anchor boxes of torchvision's detectors: what a network has, and how it gets others."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torchvision.models.detection import FCOS, FasterRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator
from torchvision.models.detection.ssd import SSD

from pipeline.core.errors import ConfigError

_SAME = 0.02  # ratios nearer to each other than this part are one: 0.33 is 1/3


@dataclass(frozen=True)
class Anchors:
    """`sizes` by level, in pixels of the network's input; `ratios` height / width, for every level. None: the builder's."""

    sizes: tuple[tuple[float, ...], ...] | None = None
    ratios: tuple[float, ...] | None = None

    @classmethod
    def from_mapping(cls, given: Mapping[str, Any]) -> "Anchors":
        """From `vars(settings.anchors)`, or the same mapping read from a file. Raises ValueError and TypeError for anything but
        lists of positive numbers."""
        if not isinstance(given, Mapping) or set(given) - {"sizes", "ratios"}:
            raise ValueError("expected sizes and ratios")
        sizes, ratios = given.get("sizes"), given.get("ratios")
        return cls(
            None if sizes is None else tuple(_positive(level) for level in _some(sizes)),
            None if ratios is None else _positive(ratios),
        )

    def __bool__(self) -> bool:
        return self.sizes is not None or self.ratios is not None

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it: what was set, and nothing else."""
        given = {
            "sizes": self.sizes and [list(level) for level in self.sizes],
            "ratios": self.ratios and list(self.ratios),
        }
        return {name: value for name, value in given.items() if value is not None}

    def to_overrides(self) -> str:
        """As they are said on the command line."""
        plain = self.to_dict()
        levels = [
            "[" + ",".join(f"{size:g}" for size in level) + "]" for level in plain.get("sizes", ())
        ]
        said = [f"anchors.sizes=[{','.join(levels)}]"] if levels else []
        if "ratios" in plain:
            said.append(f"anchors.ratios=[{','.join(f'{ratio:g}' for ratio in plain['ratios'])}]")
        return " ".join(said)


def _some(values: Any) -> Sequence[Any]:
    if not isinstance(values, list | tuple) or not values:
        raise ValueError(f"expected a list, got {values!r}")
    return values


def _positive(values: Any) -> tuple[float, ...]:
    numbers = tuple(float(value) for value in _some(values))
    if not all(0 < number < float("inf") for number in numbers):
        raise ValueError(f"expected numbers above 0, got {values!r}")
    return numbers


def read_anchors(network: nn.Module) -> Anchors:
    """What a detector has now. An SSD's sizes are one more than its levels: its second square of a level is the geometric
    mean of the level's size and the next. Ratios that are not those of every level are put together."""
    generator = get_anchor_generator(network)
    if isinstance(generator, DefaultBoxGenerator):
        extra = {ratio for level in generator.aspect_ratios for ratio in level}
        sizes = tuple((scale * _side(network),) for scale in generator.scales)
        return Anchors(
            sizes, (1.0, *(one for ratio in sorted(extra) for one in (float(ratio), 1 / ratio)))
        )
    ratios = sorted({float(ratio) for level in generator.aspect_ratios for ratio in level})
    return Anchors(
        tuple(tuple(float(size) for size in level) for level in generator.sizes), tuple(ratios)
    )


def compute_anchor_shapes(network: nn.Module, anchors: Anchors | None = None) -> list[np.ndarray]:
    """Of each level the (A, 2) widths and heights of its anchors, in pixels of the network's input: as they are, or as they
    would be with other anchors. Raises ConfigError."""
    generator = (
        build_anchor_generator(network, anchors) if anchors else get_anchor_generator(network)
    )
    if isinstance(generator, DefaultBoxGenerator):
        pairs = [pair.clamp(0, 1) if generator.clip else pair for pair in generator._wh_pairs]
        return [(pair * _side(network)).numpy() for pair in pairs]
    return [(cell[:, 2:] - cell[:, :2]).numpy() for cell in generator.cell_anchors]


def get_anchor_generator(network: nn.Module) -> Any:
    """Raises ConfigError for a network without anchors."""
    found = network.rpn if isinstance(network, FasterRCNN) else network
    if not isinstance(found, SSD | RetinaNet | FCOS) and not isinstance(network, FasterRCNN):
        raise ConfigError(
            f"anchors: {type(network).__name__} has no anchors; leave anchors.sizes and anchors.ratios out."
        )
    return found.anchor_generator


def apply_anchors(network: nn.Module, anchors: Anchors, num_classes: int) -> list[str]:
    """Change the detector's anchors in place. Where their number at a place changes, the layers that score and shape them
    are made anew, initialised as torchvision does it; the names of these are returned. Raises ConfigError."""
    generator = build_anchor_generator(network, anchors)
    counts = generator.num_anchors_per_location()
    if isinstance(network, FasterRCNN):
        network.rpn.anchor_generator = generator
        return _resize_rpn(network.rpn.head, counts[0])
    network.anchor_generator = generator
    if isinstance(network, SSD):
        return _resize_ssd(network.head, counts, num_classes)
    return (
        _resize_retinanet(network.head, counts[0], num_classes)
        if isinstance(network, RetinaNet)
        else []
    )


def build_anchor_generator(network: Any, anchors: Anchors) -> Any:
    """One like the network's, with these anchors. Raises ConfigError for what the network cannot have."""
    generator = get_anchor_generator(network)
    if not anchors:
        return generator
    if isinstance(generator, DefaultBoxGenerator):
        return _ssd_generator(network, generator, anchors)
    sizes = _sizes(network, generator, anchors)
    if isinstance(network, FCOS):
        if anchors.ratios is not None:
            raise ConfigError(
                "anchors.ratios: FCOS has no anchor shapes; its anchors.sizes are its strides, one a level."
            )
        if any(len(level) != 1 for level in sizes):
            raise ConfigError(
                f"anchors.sizes={_plain(sizes)}: FCOS takes one size a level, its stride."
            )
    ratios = (
        (anchors.ratios,) * len(sizes)
        if anchors.ratios
        else tuple(map(tuple, generator.aspect_ratios))
    )
    made = AnchorGenerator(sizes, ratios)
    if any((cell[:, 2:] <= cell[:, :2]).any() for cell in made.cell_anchors):
        raise ConfigError(
            f"anchors: sizes {_plain(sizes)} with ratios {_plain(ratios[0])} give boxes without an area."
        )
    if (
        len(set(made.num_anchors_per_location())) != 1
    ):  # the layers that score them are the same for all levels
        raise ConfigError(
            f"anchors.sizes={_plain(sizes)}: every level must have as many sizes as the others."
        )
    return made


def _sizes(
    network: nn.Module, generator: AnchorGenerator, anchors: Anchors
) -> tuple[tuple[float, ...], ...]:
    own = tuple(tuple(float(size) for size in level) for level in generator.sizes)
    if anchors.sizes is not None and len(anchors.sizes) != len(own):
        raise ConfigError(
            f"anchors.sizes={_plain(anchors.sizes)}: {type(network).__name__} looks at maps of {len(own)} levels, and here "
            f"are sizes for {len(anchors.sizes)}. Its own are {_plain(own)}."
        )
    return anchors.sizes or own


def _resize_rpn(head: Any, count: int) -> list[str]:
    if head.cls_logits.out_channels == count:
        return []
    head.cls_logits = _with_outputs(head.cls_logits, count, 0.01)
    head.bbox_pred = _with_outputs(head.bbox_pred, 4 * count, 0.01)
    return ["rpn.head.cls_logits", "rpn.head.bbox_pred"]


def _resize_retinanet(head: Any, count: int, num_classes: int) -> list[str]:
    scores, boxes = head.classification_head, head.regression_head
    if scores.num_anchors == count:
        return []
    prior = float(
        torch.logit(torch.tensor(0.01))
    )  # torchvision's: an object at one place of a hundred
    scores.cls_logits = _with_outputs(scores.cls_logits, count * num_classes, 0.01, bias=prior)
    boxes.bbox_reg = _with_outputs(boxes.bbox_reg, count * 4, 0.01)
    scores.num_anchors = count
    return ["head.classification_head.cls_logits", "head.regression_head.bbox_reg"]


def _ssd_generator(
    network: Any, generator: DefaultBoxGenerator, anchors: Anchors
) -> DefaultBoxGenerator:
    levels = len(generator.aspect_ratios)
    scales, ratios = list(generator.scales), [list(level) for level in generator.aspect_ratios]
    if anchors.sizes is not None:
        if len(anchors.sizes) not in (levels, levels + 1) or any(
            len(level) != 1 for level in anchors.sizes
        ):
            own = read_anchors(network).sizes or ()
            raise ConfigError(
                f"anchors.sizes={_plain(anchors.sizes)}: this SSD looks at maps of {levels} levels and takes one size for "
                f"each, and one more for the second square of the last. Its own are {_plain(own)}."
            )
        scales = [level[0] / _side(network) for level in anchors.sizes]
        if len(scales) == levels:  # the last level's next size: further in the same proportion
            scales.append(scales[-1] * (scales[-1] / scales[-2] if levels > 1 else 1))
    if anchors.ratios is not None:
        ratios = [_lying_and_standing(anchors.ratios)] * levels
    return DefaultBoxGenerator(ratios, scales=scales, steps=generator.steps, clip=generator.clip)


def _lying_and_standing(ratios: tuple[float, ...]) -> list[float]:
    """An SSD has squares anyway, and every ratio both ways: [0.5, 1, 2] -> [2]."""
    found: list[float] = []
    for ratio in sorted(max(ratio, 1 / ratio) for ratio in ratios):
        if all(abs(ratio / known - 1) > _SAME for known in [1.0, *found]):
            found.append(ratio)
    return found


def _resize_ssd(head: Any, counts: Sequence[int], num_classes: int) -> list[str]:
    """The last convolution of each level and kind. SSDlite has a depthwise one before it, which stays."""
    anew = []
    for level, count in enumerate(counts):
        for name, columns in (("classification_head", num_classes), ("regression_head", 4)):
            layers = getattr(head, name).module_list
            lite = isinstance(layers[level], nn.Sequential)
            last = layers[level][-1] if lite else layers[level]
            if last.out_channels == count * columns:
                continue
            made = _with_outputs(last, count * columns, 0.03 if lite else None)
            if lite:
                layers[level][-1] = made
            else:
                layers[level] = made
            anew.append(f"head.{name}.module_list.{level}")
    return anew


def _with_outputs(conv: nn.Conv2d, outputs: int, std: float | None, bias: float = 0.0) -> nn.Conv2d:
    """A convolution like this one with so many outputs. `std` of its normal weights; None: Xavier's."""
    kernel: Any = conv.kernel_size
    made = nn.Conv2d(conv.in_channels, outputs, kernel, stride=conv.stride, padding=conv.padding)  # type: ignore[arg-type]
    if std is None:
        nn.init.xavier_uniform_(made.weight)
    else:
        nn.init.normal_(made.weight, std=std)
    if made.bias is not None:
        nn.init.constant_(made.bias, bias)
    return made


def _side(network: Any) -> float:
    """Pixels of the square that an SSD resizes every image to."""
    return float(max(network.transform.fixed_size))


def _plain(values: Sequence[Any]) -> str:
    return (
        "["
        + ", ".join(_plain(v) if isinstance(v, list | tuple) else f"{v:g}" for v in values)
        + "]"
    )
