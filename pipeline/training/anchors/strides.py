"""Propose strides for FCOS, which has no anchor shapes.

Each position of a feature map learns boxes within a range of sizes. The stride of its level sets
the range.
"""

from collections.abc import Sequence

import numpy as np

from pipeline.training.anchors.box_shapes import AnchorFit

_CENTRE = 1.5  # torchvision's center_sampling_radius, in strides
_PHASES = (np.arange(8) + 0.5) / 8  # positions of a box's centre between two places
_FACTORS = (
    1,
    2**0.5,
    0.5**0.5,
    2,
    0.5,
    2**1.5,
    0.5**1.5,
    4,
    0.25,
)  # factors on the network's own strides; those nearest to 1 come first
_WORTH = 0.01  # least gain in recall for which a factor further from 1 is chosen


def measure_stride_fit(
    boxes_wh: np.ndarray, strides: Sequence[float], grids: Sequence[float]
) -> AnchorFit:
    """Measure how many boxes have a place that learns from them.

    The rule is torchvision's (FCOS.compute_loss; Tian et al. 2019, arXiv 2006.09214). A place at
    (dx, dy) from the centre of a box learns from the box if it is inside the box,
    max(|dx|, |dy|) < 1.5 s and 4 s < max(w / 2 + |dx|, h / 2 + |dy|) < 8 s, for a level of
    stride s. The first level has no lower limit, the last one no upper limit. Only the places
    nearest to the centre are tried.

    Args:
        boxes_wh: (N, 2).
        strides: The stride that sets the limits of each level.
        grids: The distance between the places of each level, in pixels.

    Returns:
        `recall` is the probability that a box at a random position has such a place. `iou` is how
        central that place is: 1 at the box's centre, 0 at its edge.
    """
    half = boxes_wh / 2
    nearest = np.full((len(boxes_wh), len(_PHASES), len(_PHASES)), np.inf)
    for level, (stride, grid) in enumerate(zip(strides, grids, strict=True)):
        off = np.minimum(_PHASES, 1 - _PHASES) * grid
        dx, dy = np.meshgrid(off, off)
        inside = (
            (dx < half[:, 0, None, None])
            & (dy < half[:, 1, None, None])
            & (np.maximum(dx, dy) < _CENTRE * stride)
        )
        furthest = np.maximum(half[:, 0, None, None] + dx, half[:, 1, None, None] + dy)
        least = 0 if level == 0 else 4 * stride
        most = np.inf if level == len(strides) - 1 else 8 * stride
        learns = inside & (furthest > least) & (furthest < most)
        share = np.maximum(dx / half[:, 0, None, None], dy / half[:, 1, None, None])
        nearest = np.where(learns, np.minimum(nearest, share), nearest)
    has_place = np.isfinite(nearest)
    return AnchorFit(float(has_place.mean()), float(np.where(has_place, 1 - nearest, 0).mean()))


def propose_strides(boxes_wh: np.ndarray, own: Sequence[float]) -> list[float]:
    """Propose strides: the network's own, times the factor nearest to 1 that raises the recall.

    All levels get the same factor. They then stay a factor of two apart, which leaves no size out.

    Args:
        boxes_wh: (N, 2).
        own: The strides of the network's feature maps, in pixels.
    """
    chosen, best = list(own), measure_stride_fit(boxes_wh, own, own).recall
    for factor in _FACTORS:
        strides = [float(f"{stride * factor:.3g}") for stride in own]
        recall = measure_stride_fit(boxes_wh, strides, own).recall
        if recall > best + _WORTH:
            chosen, best = strides, recall
    return chosen
