"""Read a folder that has a sub-folder of images for each class (task=classify)."""

import hashlib
from pathlib import Path

import numpy as np

from pipeline.annotations.dataset_listing import (
    DatasetListing,
    ListedImage,
    ProblemList,
    empty_boxes,
)
from pipeline.annotations.file_finder import list_files
from pipeline.core.errors import ConfigError
from pipeline.core.keys import read_suffix
from pipeline.core.passed_over import is_passed_over_name
from pipeline.inputs.decoding.formats import IMAGE_SUFFIXES

TASKS = frozenset({"classify"})
_VALIDATION = ("val", "valid", "validation", "test")  # the first one that exists is used


def read_class_folders(path: Path, problems: ProblemList) -> DatasetListing:
    """Read a class folder data set.

    Classes are sorted by name; folders that `pipeline.core.passed_over` excludes are skipped. If
    the folder contains only `train` and `val` (or valid, validation, test), these are the parts
    and the class folders are inside them.

    Raises:
        ConfigError: The folder has no sub-folders.
    """
    split = find_class_parts(path)
    if split:
        names = _list_folders(path / "train")
        held_out = next(name for name in _VALIDATION if name in split)
        parts = {
            part: _list_part(path / folder, path, names, problems)
            for part, folder in (("train", "train"), ("val", held_out))
        }
        return DatasetListing(tuple(names), parts, _hash_names(names))
    folders = _list_folders(path)
    if not folders:
        raise ConfigError(
            f"{problems.what}: expected a folder with a sub-folder for each class; "
            "it has no folders."
        )
    return DatasetListing(
        tuple(folders), {"train": _list_part(path, path, folders, problems)}, _hash_names(folders)
    )


def find_class_parts(path: Path) -> tuple[str, ...]:
    """Return the folders of the parts, such as train and val; empty if the folders are classes."""
    folders = _list_folders(path)
    is_split = "train" in folders and set(folders) <= {"train", *_VALIDATION} and len(folders) > 1
    return tuple(folders) if is_split and _list_folders(path / "train") else ()


def _list_part(
    folder: Path, root: Path, names: list[str], problems: ProblemList
) -> list[ListedImage]:
    label_of = {name: label for label, name in enumerate(names)}
    listed = []
    for image in sorted(
        path.name for path in folder.iterdir() if path.is_file() and _is_image(path.name)
    ):
        problems.add(f"{(folder / image).relative_to(root)}: it is in no class's folder")
    for name in _list_folders(folder):
        images = [image.relative_to(root) for image in list_files(folder / name)]
        if name not in label_of:
            problems.add(f"{folder.name}/{name}: train/ has no such class")
        elif not images:
            problems.add(f"{(folder / name).relative_to(root)}: the class has no images")
        else:
            label = np.array([label_of[name]])
            listed += [
                ListedImage(image.as_posix(), root / image, label, empty_boxes())
                for image in images
            ]
    return listed


def _list_folders(path: Path) -> list[str]:
    return sorted(
        entry.name
        for entry in path.iterdir()
        if entry.is_dir() and not is_passed_over_name(entry.name, is_folder=True)
    )


def _is_image(name: str) -> bool:
    return read_suffix(name) in IMAGE_SUFFIXES and not is_passed_over_name(name)


def _hash_names(names: list[str]) -> str:
    """Return the SHA-256 of the class names. `AnnotationChecker` adds names and sizes of images."""
    return hashlib.sha256("\n".join(names).encode("utf-8", "surrogateescape")).hexdigest()
