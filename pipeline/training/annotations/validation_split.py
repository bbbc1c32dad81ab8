"""A part of a data set drawn for validation."""

from collections.abc import Sequence
from hashlib import blake2b

from pipeline.training.annotations.annotated_set import AnnotatedImage


def split_for_validation(
    images: Sequence[AnnotatedImage], part: float, seed: int, by_class: bool
) -> tuple[list[AnnotatedImage], list[AnnotatedImage]]:
    """(training, validation), each in the given order. `part` of each class, or of the images with objects and of those
    without: at least one where there are two, never all.

    Images are drawn by a hash of their names, so that more images in the data, or another order, leave the others where
    they were as far as that can be."""
    groups: dict[int, list[AnnotatedImage]] = {}
    for one in images:
        groups.setdefault(int(one.labels[0]) if by_class else int(one.has_objects), []).append(one)
    chosen: set[str] = set()
    for group in groups.values():
        count = min(max(1, round(part * len(group))), len(group) - 1) if part else 0
        chosen |= set(
            sorted((one.name for one in group), key=lambda name: _hash_name(name, seed))[:count]
        )
    return [one for one in images if one.name not in chosen], [
        one for one in images if one.name in chosen
    ]


def _hash_name(name: str, seed: int) -> bytes:
    return blake2b(f"{seed} {name}".encode("utf-8", "surrogateescape"), digest_size=16).digest()
