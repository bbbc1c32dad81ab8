"""The same picture twice: files of equal bytes, and pictures that look alike. Found before a model sees them.

Each image is compared with those before it in the order of the plan. A twin is never the first of its kind, and is never a
twin of a twin, so that no chain leads from a picture to one that does not look like it.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from hashlib import blake2b, file_digest
from itertools import compress, islice
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from pipeline.core.cpu import count_available_cores, disable_openmp_threads
from pipeline.core.types import Entry, InputError
from pipeline.inputs.image_source import ImageSource

_SIDE = 9  # of the grey thumbnail, pixels
_MOST_BITS = 7  # of 128 that may differ between twins. Of 178 photographs and copies of JPEG quality 15: 5; of any two: 31
_MOST_LEVELS = 6.0  # of 255, mean difference of twins' thumbnails: blank pictures have equal bits, whatever their brightness
_FLAT = 1.0  # of 255: where neighbours differ by less, the sign of it is noise
_WORDS = 8  # of a hash
_AT_ONCE = 1024
_GREY = torch.tensor([0.299, 0.587, 0.114])  # ITU-R BT.601

T = TypeVar("T")


@dataclass(frozen=True)
class Duplicates:
    """`first[i]` is the image that image i is a twin of; i where it is none."""

    first: np.ndarray  # (N,) int64
    same_bytes: np.ndarray  # (N,) bool; else they look alike

    @property
    def indices(self) -> np.ndarray:
        """Of the images that are a twin of another."""
        return np.flatnonzero(self.first != np.arange(len(self.first)))


@dataclass(frozen=True)
class ImageScan:
    """Images as they are read here: by several threads, in order."""

    source: ImageSource
    entries: Callable[
        [], Iterable[Entry]
    ]  # all of them in the order of the plan, as often as asked
    max_pixels: int
    at: Callable[[int], AbstractContextManager[None]] = lambda i: (
        nullcontext()
    )  # around what is done with image i

    def each(self, function: Callable[[Entry], T], wanted: np.ndarray) -> Iterator[tuple[int, T]]:
        """(index, what the function makes of it) of those that `wanted` (N,) says."""

        def call(one: tuple[int, Entry]) -> tuple[int, T]:
            with self.at(one[0]):
                return one[0], function(one[1])

        chosen = compress(enumerate(self.entries()), wanted)
        with ThreadPoolExecutor(
            count_available_cores(), initializer=disable_openmp_threads
        ) as threads:
            while some := list(islice(chosen, _AT_ONCE)):
                yield from threads.map(call, some)

    def digest(self, entry: Entry) -> bytes | None:
        try:
            with self.source.open(entry) as file:
                return file_digest(file, lambda: blake2b(digest_size=16)).digest()  # type: ignore[arg-type]
        except (InputError, OSError):
            return None

    def thumbnail(self, entry: Entry) -> np.ndarray | None:
        (pixels,) = self.source.read([entry], self.max_pixels, lambda stage: nullcontext())
        return grey_thumbnail(pixels) if isinstance(pixels, Tensor) else None


def find_duplicates(pictures: ImageScan, near: bool, skip: Collection[int] = ()) -> Duplicates:
    """Files of equal size are read and compared; with `near` every other image is decoded. A file that cannot be decoded is
    nobody's twin, nor is one of `skip`, which is not touched."""
    by_bytes = _equal_bytes(pictures, skip)
    first = by_bytes
    if near:
        wanted = by_bytes == np.arange(len(by_bytes))
        wanted[list(skip)] = False
        first = _equal_looks(pictures, wanted)[by_bytes]
    return Duplicates(first, first == by_bytes)


def _equal_bytes(pictures: ImageScan, skip: Collection[int]) -> np.ndarray:
    sizes = np.fromiter(
        (-1 if entry.size is None else entry.size for entry in pictures.entries()), dtype=np.int64
    )
    _, group, count = np.unique(sizes, return_inverse=True, return_counts=True)
    candidate = (count[group] > 1) | (sizes < 0).any()  # a size that is not known may be any
    candidate[list(skip)] = False
    first = np.arange(len(sizes))
    seen: dict[bytes, int] = {}
    for i, digest in pictures.each(pictures.digest, candidate):
        if digest is not None:
            first[i] = seen.setdefault(digest, i)
    return _without_broken(pictures, first)


def _without_broken(pictures: ImageScan, first: np.ndarray) -> np.ndarray:
    """Files that are no picture are failures, every one of them."""
    itself = np.arange(len(first))
    has_twins = np.zeros(len(first), dtype=bool)
    has_twins[first[first != itself]] = True
    broken = [
        i for i, thumbnail in pictures.each(pictures.thumbnail, has_twins) if thumbnail is None
    ]
    return np.where(np.isin(first, broken), itself, first)


def _equal_looks(pictures: ImageScan, wanted: np.ndarray) -> np.ndarray:
    thumbnails = np.zeros((len(wanted), _SIDE, _SIDE), dtype=np.float32)
    readable = np.zeros(len(wanted), dtype=bool)
    for i, thumbnail in pictures.each(pictures.thumbnail, wanted):
        if thumbnail is not None:
            thumbnails[i], readable[i] = thumbnail, True
    members, first = np.flatnonzero(readable), np.arange(len(wanted))
    first[members] = members[find_similar(thumbnails[members])]
    return first


def grey_thumbnail(pixels: Tensor) -> np.ndarray:
    """(3, H, W) uint8 RGB -> (9, 9) float32, the mean grey level of each of 9 x 9 parts."""
    colours = adaptive_avg_pool2d(pixels.float(), _SIDE)
    return torch.einsum("chw,c->hw", colours, _GREY.to(colours.device)).cpu().numpy()


def find_similar(thumbnails: np.ndarray) -> np.ndarray:
    """(N, 9, 9) grey levels -> (N,) the index of the first picture that each looks like, or its own.

    Two pictures look alike when at most 7 of 128 bits differ, each of which says whether a part of the picture is lighter
    than its neighbour to the left or above (the difference hash of N. Krawetz, 2013, in both directions), and their grey
    levels by at most 6 of 255 in the mean."""
    hashes = difference_hash(thumbnails)
    first = np.arange(len(hashes))
    # those that are no twin, by each of their eight words: who differs from one in at most 7 bits has a word in common
    known: list[defaultdict[int, list[int]]] = [defaultdict(list) for _ in range(_WORDS)]
    for i, words in enumerate(hashes.tolist()):
        near = sorted(
            {j for by_word, word in zip(known, words, strict=True) for j in by_word.get(word, ())}
        )
        bits = np.bitwise_count(hashes[near] ^ hashes[i]).sum(axis=1)
        levels = np.abs(thumbnails[near] - thumbnails[i]).mean(axis=(1, 2))
        same = np.flatnonzero((bits <= _MOST_BITS) & (levels <= _MOST_LEVELS))
        if len(same):
            first[i] = near[same[0]]
            continue
        for by_word, word in zip(known, words, strict=True):
            by_word[word].append(i)
    return first


def difference_hash(thumbnails: np.ndarray) -> np.ndarray:
    """(N, 9, 9) -> (N, 8) uint16. Each word has bits of the whole picture: an even sky would else fill one with zeros."""
    rows = thumbnails[:, :8, 1:] - thumbnails[:, :8, :-1] > _FLAT  # (N, 8, 8)
    columns = thumbnails[:, 1:, :8] - thumbnails[:, :-1, :8] > _FLAT
    bits = np.concatenate([rows.reshape(-1, 64), columns.reshape(-1, 64)], axis=1)
    words = bits.reshape(-1, 16, _WORDS).transpose(0, 2, 1).reshape(-1, 128)
    return np.packbits(words, axis=1).view(np.uint16)
