"""Find images that look alike by comparing small grey thumbnails."""

from collections import defaultdict

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

THUMBNAIL_SIDE = 9  # pixels
# How many of the 128 bits of a hash may differ. Photographs and their copies with JPEG quality 15
# differ in up to 5 bits. Any two of 178 photographs differ in at least 31 bits.
_MAX_BITS = 7
# Largest mean difference of two thumbnails, of 255. It is needed because all blank images have
# equal bits, whatever their brightness.
_MAX_LEVELS = 6.0
_MIN_DIFFERENCE = 1.0  # of 255; the sign of a smaller difference between neighbours is noise
_N_WORDS = 8  # words of 16 bits in a hash
_LUMA = torch.tensor([0.299, 0.587, 0.114])  # of red, green, blue: ITU-R BT.601


def make_thumbnail(pixels: Tensor) -> np.ndarray:
    """Make a thumbnail of the mean grey levels of 9 x 9 parts of an image.

    (3, H, W) uint8 RGB -> (9, 9) float32.
    """
    colours = adaptive_avg_pool2d(pixels.float(), THUMBNAIL_SIDE)
    return torch.einsum("chw,c->hw", colours, _LUMA.to(colours.device)).cpu().numpy()


def find_similar(thumbnails: np.ndarray) -> np.ndarray:
    """Return (N,): the index of the first image that each image looks like, or its own index.

    Two images look alike if at most 7 of 128 bits differ and their grey levels differ by at most 6
    of 255 in the mean. A bit says whether a part of the image is lighter than its neighbour to the
    left or above (the difference hash of N. Krawetz, 2013, in both directions). An image is
    compared only with images that are not duplicates. Otherwise a chain of small differences could
    join images that look different.

    Args:
        thumbnails: (N, 9, 9) grey levels.
    """
    hashes = compute_difference_hashes(thumbnails)
    first = np.arange(len(hashes))
    # The images that are not duplicates, by each of their eight words. Two hashes that differ in at
    # most 7 bits have at least one word in common.
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

    The bits of each word come from all parts of the image. If they were neighbours, an even sky
    would fill whole words with zeros.
    """
    rows = thumbnails[:, :8, 1:] - thumbnails[:, :8, :-1] > _MIN_DIFFERENCE  # (N, 8, 8)
    columns = thumbnails[:, 1:, :8] - thumbnails[:, :-1, :8] > _MIN_DIFFERENCE  # (N, 8, 8)
    bits = np.concatenate([rows.reshape(-1, 64), columns.reshape(-1, 64)], axis=1)  # (N, 128)
    words = bits.reshape(-1, 16, _N_WORDS).transpose(0, 2, 1).reshape(-1, 128)
    return np.packbits(words, axis=1).view(np.uint16)
