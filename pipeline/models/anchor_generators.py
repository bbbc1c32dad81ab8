"""Read the anchors of a torchvision detector, and build an anchor generator with other anchors."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import nn
from torchvision.models.detection import FCOS, FasterRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator
from torchvision.models.detection.ssd import SSD

from pipeline.core.errors import ConfigError
from pipeline.models.anchors import Anchors

_SAME_RATIO = 0.02  # ratios that differ by less than this fraction are equal: 0.33 is 1/3


def get_anchor_generator(network: nn.Module) -> Any:
    """Return the detector's anchor generator.

    Raises:
        ConfigError: The network has no anchors.
    """
    owner = network.rpn if isinstance(network, FasterRCNN) else network
    if not isinstance(owner, SSD | RetinaNet | FCOS) and not isinstance(network, FasterRCNN):
        raise ConfigError(
            f"anchors: {type(network).__name__} has no anchors; "
            "leave anchors.sizes and anchors.ratios out."
        )
    return owner.anchor_generator


def read_anchors(network: nn.Module) -> Anchors:
    """Return the anchors that a detector has now.

    An SSD has one more size than levels: the side of a level's second square is the geometric mean
    of this level's size and the next size. If the levels have different ratios, the result has the
    ratios of all levels.
    """
    generator = get_anchor_generator(network)

    if isinstance(generator, DefaultBoxGenerator):
        extra = sorted({float(ratio) for level in generator.aspect_ratios for ratio in level})
        both_ways = (value for ratio in extra for value in (ratio, 1 / ratio))
        side = _get_ssd_side(network)
        return Anchors(tuple((scale * side,) for scale in generator.scales), (1.0, *both_ways))

    sizes = tuple(tuple(float(size) for size in level) for level in generator.sizes)
    ratios = sorted({float(ratio) for level in generator.aspect_ratios for ratio in level})
    return Anchors(sizes, tuple(ratios))


def compute_anchor_shapes(network: nn.Module, anchors: Anchors | None = None) -> list[np.ndarray]:
    """Compute the widths and heights of a detector's anchors, for each level of feature maps.

    Args:
        network: A torchvision detector.
        anchors: Anchors to use instead of the network's own.

    Returns:
        For each level an (A, 2) array of widths and heights, in pixels of the network's input.

    Raises:
        ConfigError: The network cannot have these anchors.
    """
    generator = (
        build_anchor_generator(network, anchors) if anchors else get_anchor_generator(network)
    )
    if isinstance(generator, DefaultBoxGenerator):
        pairs = [pair.clamp(0, 1) if generator.clip else pair for pair in generator._wh_pairs]
        return [(pair * _get_ssd_side(network)).numpy() for pair in pairs]
    return [(cell[:, 2:] - cell[:, :2]).numpy() for cell in generator.cell_anchors]


def build_anchor_generator(network: Any, anchors: Anchors) -> Any:
    """Return a generator like the network's, with the given anchors.

    Raises:
        ConfigError: The network cannot have these anchors.
    """
    generator = get_anchor_generator(network)
    if not anchors:
        return generator
    if isinstance(generator, DefaultBoxGenerator):
        return _build_ssd_generator(network, generator, anchors)

    sizes = _choose_sizes(network, generator, anchors)
    if isinstance(network, FCOS):
        _check_fcos(anchors, sizes)
    own_ratios = tuple(map(tuple, generator.aspect_ratios))
    ratios = (anchors.ratios,) * len(sizes) if anchors.ratios else own_ratios

    built = AnchorGenerator(sizes, ratios)
    if any((cell[:, 2:] <= cell[:, :2]).any() for cell in built.cell_anchors):
        raise ConfigError(
            f"anchors: sizes {_format_numbers(sizes)} with ratios {_format_numbers(ratios[0])} "
            "give boxes without an area."
        )
    # All levels share the layers that score the anchors, so they need equally many anchors.
    if len(set(built.num_anchors_per_location())) != 1:
        raise ConfigError(
            f"anchors.sizes={_format_numbers(sizes)}: "
            "every level must have as many sizes as the others."
        )
    return built


def _choose_sizes(
    network: nn.Module, generator: AnchorGenerator, anchors: Anchors
) -> tuple[tuple[float, ...], ...]:
    """Return the given sizes, or the generator's where none are given."""
    own = tuple(tuple(float(size) for size in level) for level in generator.sizes)
    if anchors.sizes is not None and len(anchors.sizes) != len(own):
        raise ConfigError(
            f"anchors.sizes={_format_numbers(anchors.sizes)}: {type(network).__name__} looks at "
            f"maps of {len(own)} levels, and here are sizes for {len(anchors.sizes)}. "
            f"Its own are {_format_numbers(own)}."
        )
    return anchors.sizes or own


def _check_fcos(anchors: Anchors, sizes: tuple[tuple[float, ...], ...]) -> None:
    if anchors.ratios is not None:
        raise ConfigError(
            "anchors.ratios: FCOS has no anchor shapes; "
            "its anchors.sizes are its strides, one a level."
        )
    if any(len(level) != 1 for level in sizes):
        raise ConfigError(
            f"anchors.sizes={_format_numbers(sizes)}: FCOS takes one size a level, its stride."
        )


def _build_ssd_generator(
    network: Any, generator: DefaultBoxGenerator, anchors: Anchors
) -> DefaultBoxGenerator:
    n_levels = len(generator.aspect_ratios)
    scales, ratios = list(generator.scales), [list(level) for level in generator.aspect_ratios]

    if anchors.sizes is not None:
        _check_ssd_sizes(network, anchors.sizes, n_levels)
        scales = [level[0] / _get_ssd_side(network) for level in anchors.sizes]
        if len(scales) == n_levels:
            # The last level needs a next size too. It is larger by the same factor as before.
            scales.append(scales[-1] * (scales[-1] / scales[-2] if n_levels > 1 else 1))

    if anchors.ratios is not None:
        ratios = [_to_ssd_ratios(anchors.ratios)] * n_levels
    return DefaultBoxGenerator(ratios, scales=scales, steps=generator.steps, clip=generator.clip)


def _check_ssd_sizes(network: Any, sizes: tuple[tuple[float, ...], ...], n_levels: int) -> None:
    if len(sizes) in (n_levels, n_levels + 1) and all(len(level) == 1 for level in sizes):
        return
    own = read_anchors(network).sizes or ()
    raise ConfigError(
        f"anchors.sizes={_format_numbers(sizes)}: this SSD looks at maps of {n_levels} levels and "
        "takes one size for each, and one more for the second square of the last. "
        f"Its own are {_format_numbers(own)}."
    )


def _to_ssd_ratios(ratios: tuple[float, ...]) -> list[float]:
    """Return the ratios above 1, each once: [0.5, 1, 2] -> [2].

    An SSD always has squares, and uses every ratio and its inverse.
    """
    distinct: list[float] = []
    for ratio in sorted(max(ratio, 1 / ratio) for ratio in ratios):
        if all(abs(ratio / known - 1) > _SAME_RATIO for known in [1.0, *distinct]):
            distinct.append(ratio)
    return distinct


def _get_ssd_side(network: Any) -> float:
    """Return the side of the square that an SSD resizes every image to, in pixels."""
    return float(max(network.transform.fixed_size))


def _format_numbers(values: Sequence[Any]) -> str:
    items = (_format_numbers(v) if isinstance(v, list | tuple) else f"{v:g}" for v in values)
    return f"[{', '.join(items)}]"
