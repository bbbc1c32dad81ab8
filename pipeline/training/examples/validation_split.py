"""Split a data set into a training and a validation part."""

from collections.abc import Sequence
from hashlib import blake2b

from pipeline.training.examples.annotated_set import AnnotatedImage


def split_for_validation(
    images: Sequence[AnnotatedImage], part: float, seed: int, by_class: bool
) -> tuple[list[AnnotatedImage], list[AnnotatedImage]]:
    """Split images into (training, validation), each in the given order.

    Images are chosen by a hash of their names, so that most images stay in their part if the data
    set grows or is reordered.

    Args:
        images: All images.
        part: Share of the images that go to the validation part, 0 to 1.
        seed: Another seed gives another split.
        by_class: Split each class in the same ratio. Otherwise images with objects and images
            without are split in the same ratio. At least one image of a group of two or more is
            chosen, and never all.
    """
    groups: dict[int, list[AnnotatedImage]] = {}
    for image in images:
        groups.setdefault(int(image.labels[0]) if by_class else int(image.has_objects), []).append(
            image
        )
    chosen: set[str] = set()
    for group in groups.values():
        count = min(max(1, round(part * len(group))), len(group) - 1) if part else 0
        chosen |= set(
            sorted((image.name for image in group), key=lambda name: _hash_name(name, seed))[:count]
        )
    return [image for image in images if image.name not in chosen], [
        image for image in images if image.name in chosen
    ]


def _hash_name(name: str, seed: int) -> bytes:
    return blake2b(f"{seed} {name}".encode("utf-8", "surrogateescape"), digest_size=16).digest()
