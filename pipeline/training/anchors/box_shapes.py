"""Box shapes beside anchor shapes: how well they fit, and anchors that fit better. Widths and heights are in pixels of the
network's input."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

MATCHED = 0.5  # IoU
_BOXES_PER_CHUNK = 1 << 16  # boxes in memory beside all anchors
_ROUNDS = 100
_STRIDES_APART = 4  # torchvision's own sizes are 4 or 8 strides of their level: smaller than a quarter is below 1 or 2 strides


@dataclass(frozen=True)
class AnchorFit:
    """Of boxes beside anchors."""

    recall: float  # share of boxes that some anchor overlaps enough
    iou: float  # mean of each box's best

    @property
    def rank(self) -> tuple[float, float]:
        """More is better; differences that chance makes do not count."""
        return round(self.recall, 3), round(self.iou, 3)


def compute_best_iou(boxes_wh: np.ndarray, anchors_wh: np.ndarray) -> np.ndarray:
    """(N, 2), (A, 2) -> (N,): the IoU with the anchor that fits best, both about one centre, as if it stood at the best
    place: min(w, w') min(h, h') / (w h + w' h' - min(w, w') min(h, h')), which YOLOv2 clusters by (Redmon and Farhadi 2017,
    section 2, "Dimension Clusters")."""
    best = np.empty(len(boxes_wh))
    for start in range(0, len(boxes_wh), _BOXES_PER_CHUNK):
        some = boxes_wh[start : start + _BOXES_PER_CHUNK, None]
        shared = np.minimum(some, anchors_wh).prod(axis=2)
        best[start : start + _BOXES_PER_CHUNK] = (
            shared / (some.prod(axis=2) + anchors_wh.prod(axis=1) - shared)
        ).max(axis=1)
    return best


def measure_fit(boxes_wh: np.ndarray, anchors_wh: np.ndarray) -> AnchorFit:
    """Recall is the best possible: no anchor stands exactly at a box."""
    best = compute_best_iou(boxes_wh, anchors_wh)
    return AnchorFit(float((best >= MATCHED).mean()), float(best.mean()))


def cluster_values(values: np.ndarray, k: int) -> np.ndarray:
    """The ascending centres of k-means (Lloyd 1982) of numbers, begun at their quantiles, so that chance has no part in it;
    fewer where there are fewer different values."""
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
    """Sizes (the square root of an area) by level, as many as `own` has. A level whose places are too far apart for the
    largest boxes keeps its own."""
    sizes = np.sqrt(boxes_wh.prod(axis=1))
    most = np.quantile(sizes, 0.99)
    used = max(1, sum(min(level) / _STRIDES_APART <= most for level in own))
    each = len(own[0])
    found = _extend_to(np.exp(cluster_values(np.log(sizes), used * each)), used * each)
    levels = [found[i * each : (i + 1) * each] for i in range(used)]
    least = [min(level) / _STRIDES_APART for level in own]
    made = [[max(size, least[i]) for size in level] for i, level in enumerate(levels)]
    return [[_round_to_three_digits(size) for size in level] for level in made] + [
        list(level) for level in own[used:]
    ]


def propose_ratios(boxes_wh: np.ndarray, count: int) -> list[float]:
    """So many ratios height / width."""
    found = np.exp(cluster_values(np.log(boxes_wh[:, 1] / boxes_wh[:, 0]), count))
    return [_round_to_three_digits(ratio) for ratio in _extend_to(found, count)]


def propose_elongations(boxes_wh: np.ndarray, count: int) -> list[float]:
    """For an SSD, which has squares and every ratio both ways: so many ratios above 1 of the boxes that are no squares."""
    longer = np.abs(np.log(boxes_wh[:, 1] / boxes_wh[:, 0]))
    long = longer[longer > np.log(1.25)]
    return (
        [_round_to_three_digits(ratio) for ratio in np.exp(cluster_values(long, count))]
        if len(long)
        else [1.0]
    )


def _extend_to(found: np.ndarray, count: int) -> list[float]:
    """Fewer kinds of boxes than anchors: more on both sides of them, a third of an octave apart."""
    values, above = list(map(float, found)), True
    while len(values) < count:
        values = (
            [*values, values[-1] * 2 ** (1 / 3)] if above else [values[0] / 2 ** (1 / 3), *values]
        )
        above = not above
    return values


def _round_to_three_digits(value: float) -> float:
    """Three digits: they are to be read, and typed."""
    return float(f"{value:.3g}")
