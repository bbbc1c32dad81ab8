"""Outlines of masks, for programs that describe a mask by one polygon."""

from itertools import pairwise

import numpy as np
from contourpy import FillType, contour_generator
from scipy.spatial import KDTree


def trace_outline(mask: np.ndarray) -> np.ndarray:
    """Return one polygon around a mask, also if the mask has several parts or holes.

    The polygon runs along the edges of the pixels and cuts their outer corners by half a pixel, so
    that the centres of all pixels of the mask, and of no others, lie inside. Parts and holes are
    joined to the rest by seams: pairs of lines at one place, which enclose nothing.

    Args:
        mask: (H, W) bool.

    Returns:
        (N, 2) float x, y in pixels from the image's upper left corner; N is 0 for an empty mask.
    """
    rings = _trace_rings(mask)
    if not rings:
        return np.zeros((0, 2))

    # The polygon follows each ring from its entry to its exit, which is the seam to the next ring,
    # and completes the rings on the way back.
    entries, exits = [0], list[int]()
    for ring, following in pairwise(rings):
        distances, nearest = KDTree(ring).query(following)
        entries.append(int(distances.argmin()))
        exits.append(int(nearest[entries[-1]]))
    exits.append(entries[-1])

    there, back = [], []
    for ring, entry, leave in zip(rings, entries, exits, strict=True):
        turned = np.roll(ring, -entry, axis=0)
        at = (leave - entry) % len(ring)
        there.append(turned[: at + 1])
        back.append(np.concatenate([turned[at:], turned[:1]]))
    outline = np.concatenate(there + back[::-1])
    return outline[(outline != np.roll(outline, 1, axis=0)).any(axis=1)]


def _trace_rings(mask: np.ndarray) -> list[np.ndarray]:
    """Return the outer and inner boundaries of a mask, each (N, 2) without its repeated end."""
    ys, xs = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(ys):
        return []
    top, left = ys[0], xs[0]
    padded = np.pad(mask[top : ys[-1] + 1, left : xs[-1] + 1], 1).astype(np.float64)

    # The first pixel of the padding has its centre at -0.5 of the mask's own box.
    origin = np.array([left - 0.5, top - 0.5])
    contours = contour_generator(z=padded, fill_type=FillType.OuterOffset)
    rings = []
    for points, offsets in zip(*contours.filled(0.5, np.inf), strict=True):
        for begin, end in pairwise(offsets.tolist()):
            rings.append(_drop_straight(points[begin : end - 1]) + origin)
    return rings


def _drop_straight(ring: np.ndarray) -> np.ndarray:
    """Leave out the points (N, 2) of a closed ring at which it goes straight on."""
    before, after = ring - np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0) - ring
    turn = before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]
    return ring[turn != 0]
