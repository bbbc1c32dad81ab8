"""Find the annotations and images of data sets in Pascal VOC's format."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.annotations.dataset_listing import AnnotationRequest, split_by_folder
from pipeline.annotations.file_finder import StemFinder, drop_suffix, list_files
from pipeline.annotations.text_files import read_lines
from pipeline.core.errors import ConfigError
from pipeline.core.keys import read_suffix
from pipeline.core.passed_over import is_passed_over

_SETS = {"detect": "Main", "segment": "Segmentation"}
_BOXES = ("Annotations", "annotations", "labels", "xmls")  # folders of XML files
_MAPS = ("SegmentationClass",)
_IMAGES = ("JPEGImages", "images", "Images", "data")
_SUFFIX = {"detect": ".xml", "segment": ".png"}
# VOC's lists for one class have a second column: 1, -1 or 0 (the class is there, is not, is hard).
_SECOND_COLUMN = re.compile(r"(.*\S)\s+(?:-1|0|1)")


@dataclass(frozen=True)
class VocAnnotation:
    """The annotation file of one image. Its name without suffix is `stem`."""

    stem: str
    file: Path  # where it should be, if it does not exist
    folder: str  # name of the folder of annotations, for messages; empty if it is the data set's


@dataclass(frozen=True)
class VocLayout:
    """The annotations of each part, and the folders in which the images may be."""

    root: Path
    is_flat: bool  # whether the root is the folder of the annotations
    parts: dict[str, list[VocAnnotation]]
    images: tuple[Path, ...]


def has_voc_layout(path: Path) -> bool:
    """Return whether a folder has VOC's folders, or XML files as other programs place them."""
    return any((path / name).is_dir() for name in (_BOXES[0], *_MAPS)) or bool(_find_boxes(path))


def read_voc_layout(path: Path, request: AnnotationRequest) -> VocLayout:
    """List the annotations of a folder.

    Raises:
        ConfigError: The folder lacks the annotations of this task.
        OSError: A list cannot be read.
    """
    task = "segment" if request.task == "segment" else "detect"
    place = _find_maps(path) if task == "segment" else _find_boxes(path)
    if place is None:
        folder = _MAPS[0] if task == "segment" else _BOXES[0]
        raise ConfigError(f"for task={request.task} expected a folder {folder} in it.")
    suffix = _SUFFIX[task]
    finder = StemFinder({suffix})
    if place == path:  # beside the images, or the folder of annotations itself
        label, images = "", [path, *(path.parent / name for name in _IMAGES)]
    else:
        label, images = place.name, [*(path / name for name in _IMAGES), place]

    def annotate(stem: str) -> VocAnnotation:
        exact = place / f"{stem}{suffix}"
        found = [] if exact.is_file() else finder.find(place, stem)
        return VocAnnotation(stem, found[0] if len(found) == 1 else exact, label)

    lists = _find_lists(path, _SETS[task])
    if "train" in lists or (lists and not request.training):
        parts = {
            part: [annotate(stem) for stem in _read_stems(lists[part], place, finder, suffix)]
            for part in request.parts
            if part in lists
        }
    else:
        every = _list_all(place, suffix, label)
        by_folder = split_by_folder({one.stem: one for one in every}) if place == path else None
        parts = by_folder or {"train": every}
    return VocLayout(path, place == path, parts, tuple(images))


def find_image(
    layout: VocLayout, annotation: VocAnnotation, named: str | None, finder: StemFinder
) -> Path:
    """Find the image of an annotation: by the annotation's own name, or else by the name in it.

    If there is none, return the path where it should be.
    """
    place = Path(annotation.stem).parent
    last = re.split(r"[/\\]", named)[-1] if named else ""
    for folder in layout.images:
        found = finder.find(folder, annotation.stem)
        if found:
            return next((path for path in found if path.name == last), found[0])
    if last:
        for folder in layout.images:
            for below in dict.fromkeys((place, Path())):
                found = finder.find(folder / below, drop_suffix(last))
                same = [path for path in found if read_suffix(path.name) == read_suffix(last)]
                if same:
                    return same[0]
    return layout.images[0] / place / (last or f"{Path(annotation.stem).name}.jpg")


def _find_boxes(path: Path) -> Path | None:
    """Return the folder of the XML files: one of the usual names, or the folder itself."""
    for name in _BOXES:
        if (path / name).is_dir() and (name == _BOXES[0] or _has_file(path / name, ".xml")):
            return path / name
    return path if _has_file(path, ".xml") else None


def _find_maps(path: Path) -> Path | None:
    return next((path / name for name in _MAPS if (path / name).is_dir()), None)


def _has_file(folder: Path, suffix: str) -> bool:
    """Return whether a folder, or a folder in it, has a file of this suffix."""
    return any(
        read_suffix(file.name) == suffix and not is_passed_over(file.relative_to(folder).as_posix())
        for file in (*folder.glob("*.*"), *folder.glob("*/*.*"))
    )


def _find_lists(path: Path, kind: str) -> dict[str, Path]:
    """Return the list of each part."""
    files = {name: path / "ImageSets" / kind / f"{name}.txt" for name in ("train", "val", "test")}
    return {name: file for name, file in files.items() if file.is_file()}


def _list_all(place: Path, suffix: str, label: str) -> list[VocAnnotation]:
    files = {drop_suffix(f.relative_to(place).as_posix()): f for f in list_files(place, {suffix})}
    stems = sorted(files, key=lambda stem: ("/" in stem, stem))
    return [VocAnnotation(stem, files[stem], label) for stem in stems]


def _read_stems(file: Path, place: Path, finder: StemFinder, suffix: str) -> Sequence[str]:
    """Read one name per line, without the second column of a list for one class."""
    stems = []
    for line in read_lines(file):
        column = _SECOND_COLUMN.fullmatch(line)
        is_name = column is None or (place / f"{line}{suffix}").is_file()
        stems.append(line if is_name or column is None else column[1])
    return stems
