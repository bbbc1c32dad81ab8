"""Which images look alike, by small grey thumbnails."""

from collections import defaultdict

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

THUMBNAIL_SIDE = 9  # pixels
# of the 128 bits of a hash that may differ. Photographs and their copies of JPEG quality 15 differ
# in up to 5 bits, any two of 178 photographs in at least 31.
_MAX_BITS = 7
# of 255, mean difference of thumbnails. Blank images have equal bits, whatever their brightness.
_MAX_LEVELS = 6.0
_MIN_DIFFERENCE = 1.0  # of 255; the sign of a smaller difference between neighbours is noise
_N_WORDS = 8  # of a hash
_LUMA = torch.tensor([0.299, 0.587, 0.114])  # of red, green, blue: ITU-R BT.601


def make_thumbnail(pixels: Tensor) -> np.ndarray:
    """Reduce (3, H, W) uint8 RGB to (9, 9) float32, the mean grey levels of 9 x 9 parts of the
    image.
    """
    colours = adaptive_avg_pool2d(pixels.float(), THUMBNAIL_SIDE)
    return torch.einsum("chw,c->hw", colours, _LUMA.to(colours.device)).cpu().numpy()


def find_similar(thumbnails: np.ndarray) -> np.ndarray:
    """Return (N,) the index of the first image that each image looks like, or its own index.

    Two images look alike if at most 7 of 128 bits differ and their grey levels differ by at most 6
    of 255 in the mean. A bit says whether a part of the image is lighter than its neighbour to the
    left or above (the difference hash of N. Krawetz, 2013, in both directions). Images are compared
    only with images that look like none before them, so that no chain of duplicates leads to an
    image that looks different.

    Args:
        thumbnails: (N, 9, 9) grey levels.
    """
    hashes = compute_difference_hashes(thumbnails)
    first = np.arange(len(hashes))
    # Images that look like none before them, by each of their eight words. Hashes that differ in at
    # most 7 bits have a word in common.
    by_word: list[defaultdict[int, list[int]]] = [defaultdict(list) for _ in range(_N_WORDS)]
    for i, words in enumerate(hashes.tolist()):
        candidates = sorted(
            {j for images, word in zip(by_word, words, strict=True) for j in images.get(word, ())}
        )
        bits = np.bitwise_count(hashes[candidates] ^ hashes[i]).sum(axis=1)
        levels = np.abs(thumbnails[candidates] - thumbnails[i]).mean(axis=(1, 2))
        matches = np.flatnonzero((bits <= _MAX_BITS) & (levels <= _MAX_LEVELS))
        if len(matches):
            first[i] = candidates[matches[0]]
            continue
        for images, word in zip(by_word, words, strict=True):
            images[word].append(i)
    return first


def compute_difference_hashes(thumbnails: np.ndarray) -> np.ndarray:
    """Compute (N, 8) uint16 hashes of (N, 9, 9) thumbnails.

    The bits of each word come from all over the image: an even sky would fill a word of neighbours
    with zeros.
    """
    rows = thumbnails[:, :8, 1:] - thumbnails[:, :8, :-1] > _MIN_DIFFERENCE  # (N, 8, 8)
    columns = thumbnails[:, 1:, :8] - thumbnails[:, :-1, :8] > _MIN_DIFFERENCE  # (N, 8, 8)
    bits = np.concatenate([rows.reshape(-1, 64), columns.reshape(-1, 64)], axis=1)  # (N, 128)
    words = bits.reshape(-1, 16, _N_WORDS).transpose(0, 2, 1).reshape(-1, 128)
    return np.packbits(words, axis=1).view(np.uint16)
