"""Find the COCO files of a data set that is given as a folder, and join them to one data set."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from pipeline.annotations.dataset_listing import DatasetListing, name_part
from pipeline.core.errors import ConfigError
from pipeline.core.passed_over import is_passed_over

_PLACES = ("*.json", "annotations/*.json", "Annotations/*.json", "*/*.json")
_NO_OBJECTS = ("captions", "image_info", "panoptic", "stuff", "labels_info")


def find_coco_files(folder: Path, task: str) -> dict[str, Path]:
    """Return the COCO file of each part: train, val, test.

    The part is a word in the file's name, or the name of its folder. A file that is alone is the
    training part. person_keypoints_*.json are for task=keypoints, and instances_*.json for others.

    Raises:
        ConfigError: Two files could be the same part.
    """
    files = _list_files(folder)
    people = [file for file in files if file.name.startswith("person_keypoints")]
    if task == "keypoints":
        files = people or files
    elif len(people) < len(files):
        files = [file for file in files if file not in people]
    if len(files) == 1:
        return {"train": files[0]}
    parts: dict[str, Path] = {}
    for file in files:
        part = _find_part(file.relative_to(folder))
        if part is None or part in parts:
            raise ConfigError(
                f"{folder}: expected one COCO file for each of train, val and test, got "
                f"{', '.join(str(one.relative_to(folder)) for one in files[:5])}. "
                f"Name one of them: {file}"
            )
        parts[part] = file
    return parts


def has_coco_file(folder: Path) -> bool:
    """Return whether a folder has JSON files where programs put those of COCO's format."""
    return bool(_list_files(folder))


def join_listings(listings: Mapping[str, DatasetListing]) -> DatasetListing:
    """Join the files of several parts. Classes are matched by name.

    Raises:
        ValueError: Their keypoints differ.
    """
    if len(listings) == 1:
        ((part, listing),) = listings.items()
        return replace(listing, parts={part: listing.training})
    first = next(iter(listings.values()))
    names = dict(zip(first.names, first.class_ids, strict=True))
    for listing in listings.values():
        if listing.keypoint_names != first.keypoint_names:
            raise ValueError("its parts have different keypoints")
        for name, class_id in zip(listing.names, listing.class_ids, strict=True):
            names.setdefault(name, class_id)
    label_of = {name: label for label, name in enumerate(names)}
    parts = {}
    for part, listing in listings.items():
        labels = np.array([label_of[name] for name in listing.names], np.int64)
        parts[part] = [replace(image, labels=labels[image.labels]) for image in listing.training]
    digest = hashlib.sha256("".join(one.digest for one in listings.values()).encode()).hexdigest()
    notes = tuple(note for listing in listings.values() for note in listing.notes)
    return DatasetListing(
        tuple(names), parts, digest, first.keypoint_names, tuple(names.values()), notes
    )


def _list_files(folder: Path) -> list[Path]:
    """List the JSON files in the first place that has some."""
    for place in _PLACES:
        files = [
            file
            for file in sorted(folder.glob(place))
            if file.is_file()
            and not is_passed_over(file.relative_to(folder).as_posix())
            and not file.name.startswith(_NO_OBJECTS)
            and file.name != "notes.json"
            and (place != _PLACES[-1] or name_part(file.parent.name))
        ]
        if files:
            return files
    return []


def _find_part(file: Path) -> str | None:
    """Return the part that a word of the file's name names, or else its folder."""
    words = re.split(r"[^a-z]+", file.stem.casefold())
    found = {part for word in words if (part := name_part(word))}
    if len(found) == 1:
        return found.pop()
    return name_part(file.parent.name)
