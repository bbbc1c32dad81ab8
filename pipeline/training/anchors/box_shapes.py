"""Measure how well anchor shapes fit box shapes, and propose shapes that fit better.

Widths and heights are in pixels of the network's input.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

MATCHED = 0.5  # least IoU with an anchor for a box to count as recalled
_BOXES_PER_CHUNK = 1 << 16  # limits the memory of the (boxes, anchors) array
_ROUNDS = 100
# torchvision's own sizes are 4 or 8 strides of their level. A size below a quarter of them would
# be below 1 or 2 strides, which is too small for the level.
_STRIDES_APART = 4


@dataclass(frozen=True)
class AnchorFit:
    """Measure of how well anchors fit boxes."""

    recall: float  # share of the boxes whose best IoU is at least `MATCHED`
    iou: float  # mean of the boxes' best IoU

    @property
    def rank(self) -> tuple[float, float]:
        """A sort key: higher is better. It is rounded, so that small differences do not count."""
        return round(self.recall, 3), round(self.iou, 3)


def compute_best_iou(boxes_wh: np.ndarray, anchors_wh: np.ndarray) -> np.ndarray:
    """Return the IoU of each box with its best anchor, both with the same centre.

    The IoU is min(w, w') min(h, h') / (w h + w' h' - min(w, w') min(h, h')), as in YOLOv2's
    dimension clusters (Redmon and Farhadi 2017, section 2). (N, 2), (A, 2) -> (N,).
    """
    best = np.empty(len(boxes_wh))
    for start in range(0, len(boxes_wh), _BOXES_PER_CHUNK):
        some = boxes_wh[start : start + _BOXES_PER_CHUNK, None]
        shared = np.minimum(some, anchors_wh).prod(axis=2)
        best[start : start + _BOXES_PER_CHUNK] = (
            shared / (some.prod(axis=2) + anchors_wh.prod(axis=1) - shared)
        ).max(axis=1)
    return best


def measure_fit(boxes_wh: np.ndarray, anchors_wh: np.ndarray) -> AnchorFit:
    """Measure how well anchors fit boxes, as if an anchor were centred on each box.

    Real anchors lie on a grid, so their fit is lower.

    Args:
        boxes_wh: (N, 2).
        anchors_wh: (A, 2).
    """
    best = compute_best_iou(boxes_wh, anchors_wh)
    return AnchorFit(float((best >= MATCHED).mean()), float(best.mean()))


def cluster_values(values: np.ndarray, k: int) -> np.ndarray:
    """Cluster numbers by k-means (Lloyd 1982) and return the centres in ascending order.

    The centres start at quantiles, so the result is deterministic. There are fewer than `k`
    centres if there are fewer different values.
    """
    centres = np.unique(np.quantile(values, (np.arange(k) + 0.5) / k))
    for _ in range(_ROUNDS):
        nearest = np.searchsorted((centres[1:] + centres[:-1]) / 2, values)
        sums, counts = (
            np.bincount(nearest, values, len(centres)),
            np.bincount(nearest, minlength=len(centres)),
        )
        moved = sums[counts > 0] / counts[counts > 0]
        if len(moved) == len(centres) and np.allclose(moved, centres, rtol=0, atol=1e-6):
            break
        centres = moved
    return centres


def propose_sizes(boxes_wh: np.ndarray, own: Sequence[Sequence[float]]) -> list[list[float]]:
    """Propose anchor sizes for each level, as many as `own` has.

    A size is the square root of an area, in pixels. A level whose stride is too large even for the
    largest boxes keeps its own sizes.
    """
    sizes = np.sqrt(boxes_wh.prod(axis=1))
    most = np.quantile(sizes, 0.99)
    used = max(1, sum(min(level) / _STRIDES_APART <= most for level in own))
    each = len(own[0])
    centres = _extend_to(np.exp(cluster_values(np.log(sizes), used * each)), used * each)
    levels = [centres[i * each : (i + 1) * each] for i in range(used)]
    least = [min(level) / _STRIDES_APART for level in own]
    made = [[max(size, least[i]) for size in level] for i, level in enumerate(levels)]
    return [[_round_to_three_digits(size) for size in level] for level in made] + [
        list(level) for level in own[used:]
    ]


def propose_ratios(boxes_wh: np.ndarray, count: int) -> list[float]:
    """Propose `count` aspect ratios, height / width."""
    centres = np.exp(cluster_values(np.log(boxes_wh[:, 1] / boxes_wh[:, 0]), count))
    return [_round_to_three_digits(ratio) for ratio in _extend_to(centres, count)]


def propose_elongations(boxes_wh: np.ndarray, count: int) -> list[float]:
    """Propose ratios for an SSD from the boxes that are not nearly square.

    All are above 1, because an SSD adds squares and the inverse of each ratio itself.
    """
    longer = np.abs(np.log(boxes_wh[:, 1] / boxes_wh[:, 0]))
    long = longer[longer > np.log(1.25)]
    return (
        [_round_to_three_digits(ratio) for ratio in np.exp(cluster_values(long, count))]
        if len(long)
        else [1.0]
    )


def _extend_to(found: np.ndarray, count: int) -> list[float]:
    """Extend a list to `count` values, alternately above and below, a third of an octave apart."""
    values, above = list(map(float, found)), True
    while len(values) < count:
        values = (
            [*values, values[-1] * 2 ** (1 / 3)] if above else [values[0] / 2 ** (1 / 3), *values]
        )
        above = not above
    return values


def _round_to_three_digits(value: float) -> float:
    """Round to three digits, because people read and type these values."""
    return float(f"{value:.3g}")
