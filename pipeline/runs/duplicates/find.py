"""Find duplicates before a model sees them: files of equal bytes, and images that look alike.

Each image is compared with earlier images, in the order of the plan, that are not duplicates
themselves. So the first of several equal images is not a duplicate, and all others are duplicates
of the first one.
"""

from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from hashlib import blake2b, file_digest
from itertools import compress, islice
from typing import TypeVar

import numpy as np
from torch import Tensor

from pipeline.core.cpu import count_available_cores, disable_openmp_threads
from pipeline.core.errors import ConfigError
from pipeline.core.protocols import ImageFileSource, Source
from pipeline.core.types import Entry, InputError
from pipeline.runs.duplicates.similarity import THUMBNAIL_SIDE, find_similar, make_thumbnail

_BATCH_IMAGES = 1024  # images that are submitted to the threads at once

T = TypeVar("T")


@dataclass(frozen=True)
class Duplicates:
    """The image that each image duplicates.

    `first[i]` is i if image i is not a duplicate.
    """

    first: np.ndarray  # (N,) int64
    same_bytes: np.ndarray  # (N,) bool; False: the images look alike but differ in bytes

    @property
    def indices(self) -> np.ndarray:
        """The indices of the images that are duplicates, (M,)."""
        return np.flatnonzero(self.first != np.arange(len(self.first)))


def require_image_files(source: Source) -> ImageFileSource:
    """Return the source as a source of image files, which can be compared.

    Raises:
        ConfigError: Its inputs are not image files.
    """
    if not source.has_image_files:
        raise ConfigError(
            "Duplicates are found among image files; the source's inputs are parts of videos."
        )
    return source  # type: ignore[return-value]  # `has_image_files` promises `open`


@dataclass(frozen=True)
class ImageScan:
    """Reads all images of a source with several threads, and gives the results in order.

    Each call of `list_entries` lists all images in the order of the plan. `track(i)` is a context
    for the work on image i.
    """

    source: ImageFileSource
    list_entries: Callable[[], Iterable[Entry]]
    max_pixels: int
    track: Callable[[int], AbstractContextManager[None]] = lambda i: nullcontext()

    def map(
        self, function: Callable[[Entry], T], is_selected: np.ndarray
    ) -> Iterator[tuple[int, T]]:
        """Yield (index, function(entry)) of the selected images. `is_selected`: (N,) bool."""

        def call(indexed: tuple[int, Entry]) -> tuple[int, T]:
            index, entry = indexed
            with self.track(index):
                return index, function(entry)

        selected = compress(enumerate(self.list_entries()), is_selected)
        with ThreadPoolExecutor(
            count_available_cores(), initializer=disable_openmp_threads
        ) as threads:
            while batch := list(islice(selected, _BATCH_IMAGES)):
                yield from threads.map(call, batch)

    def hash_bytes(self, entry: Entry) -> bytes | None:
        """Return the digest of the file; None if it cannot be read."""
        try:
            with self.source.open(entry) as file:
                return file_digest(file, lambda: blake2b(digest_size=16)).digest()  # type: ignore[arg-type]
        except (InputError, OSError):
            return None

    def make_thumbnail(self, entry: Entry) -> np.ndarray | None:
        """Return the (9, 9) thumbnail; None if the image cannot be read."""
        (pixels,) = self.source.read([entry], self.max_pixels, lambda stage: nullcontext())
        return make_thumbnail(pixels) if isinstance(pixels, Tensor) else None


def find_duplicates(scan: ImageScan, near: bool, skip: Collection[int] = ()) -> Duplicates:
    """Find images of equal bytes and, with `near`, images that look alike.

    Only files of equal size are compared by their bytes. With `near`, every image that has no equal
    bytes before it is decoded. An image that cannot be decoded is neither a duplicate nor the first
    of any. The same holds for the images in `skip`, which are not read.
    """
    by_bytes = _find_equal_bytes(scan, skip)
    first = by_bytes
    if near:
        is_selected = by_bytes == np.arange(len(by_bytes))
        is_selected[list(skip)] = False
        first = _find_similar_images(scan, is_selected)[by_bytes]
    return Duplicates(first, first == by_bytes)


def _find_equal_bytes(scan: ImageScan, skip: Collection[int]) -> np.ndarray:
    """Return the index of the first image with the same bytes, for each image: (N,)."""
    sizes = np.fromiter(
        (-1 if entry.size is None else entry.size for entry in scan.list_entries()), dtype=np.int64
    )
    _, group, count = np.unique(sizes, return_inverse=True, return_counts=True)
    # An unknown size may equal any other size.
    is_candidate = (count[group] > 1) | (sizes < 0).any()
    is_candidate[list(skip)] = False

    first = np.arange(len(sizes))
    first_by_digest: dict[bytes, int] = {}
    for i, digest in scan.map(scan.hash_bytes, is_candidate):
        if digest is not None:
            first[i] = first_by_digest.setdefault(digest, i)
    return _separate_unreadable(scan, first)


def _separate_unreadable(scan: ImageScan, first: np.ndarray) -> np.ndarray:
    """Make each file that is not an image its own first, so that each gets an error of its own."""
    itself = np.arange(len(first))
    has_duplicates = np.zeros(len(first), dtype=bool)
    has_duplicates[first[first != itself]] = True
    thumbnails = scan.map(scan.make_thumbnail, has_duplicates)
    unreadable = [i for i, thumbnail in thumbnails if thumbnail is None]
    return np.where(np.isin(first, unreadable), itself, first)


def _find_similar_images(scan: ImageScan, is_selected: np.ndarray) -> np.ndarray:
    """Return (N,): the index of the first image that each selected image looks like."""
    thumbnails = np.zeros((len(is_selected), THUMBNAIL_SIDE, THUMBNAIL_SIDE), dtype=np.float32)
    is_readable = np.zeros(len(is_selected), dtype=bool)
    for i, thumbnail in scan.map(scan.make_thumbnail, is_selected):
        if thumbnail is not None:
            thumbnails[i], is_readable[i] = thumbnail, True

    readable, first = np.flatnonzero(is_readable), np.arange(len(is_selected))
    first[readable] = readable[find_similar(thumbnails[readable])]
    return first
