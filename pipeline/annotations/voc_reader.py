"""Read Pascal VOC folders.

Annotations/*.xml has the boxes, SegmentationClass/*.png has the classes of pixels, and ImageSets
lists the images of each part.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

import numpy as np

from pipeline.annotations.dataset_listing import (
    DatasetListing,
    ListedImage,
    ProblemList,
    drop_background,
    empty_boxes,
)
from pipeline.core.errors import ConfigError
from pipeline.inputs.decoding.formats import IMAGE_SUFFIXES

TASKS = frozenset({"detect", "segment"})
NAMES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
    "tvmonitor",
)  # fmt: skip
_SETS = {"detect": "Main", "segment": "Segmentation"}
_ANNOTATIONS = {"detect": ("Annotations", ".xml"), "segment": ("SegmentationClass", ".png")}
_SIDES = ("xmin", "ymin", "xmax", "ymax")


def has_voc_layout(path: Path) -> bool:
    return any((path / folder).is_dir() for folder, _ in _ANNOTATIONS.values())


def read_voc(path: Path, task: str, problems: ProblemList) -> DatasetListing:
    """Read a VOC folder.

    The parts are train.txt and val.txt in ImageSets/Main, or for task=segment in
    ImageSets/Segmentation. Without train.txt all annotated images are training images. The class
    names are the lines of labels.txt or classes.txt. Without these files, label maps have VOC's
    twenty classes, and boxes have the classes that occur in the annotations.

    Raises:
        ConfigError: The folder lacks the annotations of this task.
        OSError: A file cannot be read.
    """
    folder, suffix = _ANNOTATIONS[task]
    if not (path / folder).is_dir():
        raise ConfigError(f"{problems.what}: for task={task} expected a folder {folder} in it.")
    lists = {part: path / "ImageSets" / _SETS[task] / f"{part}.txt" for part in ("train", "val")}
    if lists["train"].is_file():
        parts = {part: _read_stems(file) for part, file in lists.items() if file.is_file()}
    else:
        parts = {
            "train": sorted(
                item.name.removesuffix(suffix) for item in (path / folder).glob(f"*{suffix}")
            )
        }
    reader: _LabelMapReader | _BoxReader = (
        _LabelMapReader(path, problems) if task == "segment" else _BoxReader(path, problems)
    )
    read = {
        part: [item for stem in stems if (item := reader.read(stem))]
        for part, stems in parts.items()
    }
    listed = {part: [reader.list_image(item) for item in files] for part, files in read.items()}
    return DatasetListing(
        reader.names(), listed["train"], listed.get("val") or None, reader.digest.hexdigest()
    )


@dataclass(frozen=True)
class _VocAnnotation:
    """The annotation file of one image."""

    name: str
    image: Path
    size_hw: tuple[int, int] | None = None
    classes: tuple[str, ...] = ()
    boxes: tuple[Sequence[float], ...] = ()  # xyxy, counted from 1 as in VOC


class _BoxReader:
    """Reads boxes from XML files.

    VOC counts pixels from 1 and includes the last pixel of a box, so 1 is subtracted from x_min
    and y_min. Objects marked `difficult` are included.
    """

    def __init__(self, path: Path, problems: ProblemList) -> None:
        self.path, self.problems, self.given = path, problems, _read_class_names(path)
        self.found: set[str] = set()
        self.digest = hashlib.sha256(repr(self.given).encode())

    def read(self, stem: str) -> _VocAnnotation | None:
        file = self.path / "Annotations" / f"{stem}.xml"
        name = f"Annotations/{stem}.xml"
        try:
            data = file.read_bytes()
            self.digest.update(data)
            root = parse_xml(data)
            objects = [
                (
                    _find_text(element, "name"),
                    [float(_find_text(element, f"bndbox/{side}")) for side in _SIDES],
                )
                for element in root.iter("object")
            ]
            sides = [int(float(root.findtext(f"size/{side}") or 0)) for side in ("height", "width")]
        except OSError as error:
            self.problems.add(f"{name}: {error.strerror}")
            return None
        except (expat.ExpatError, ValueError, OverflowError) as error:
            self.problems.add(f"{name}: {error}")
            return None
        classes = tuple(label for label, _ in objects)
        self.found |= set(classes)
        size = (sides[0], sides[1]) if all(sides) else None
        image = _find_image(self.path / "JPEGImages", stem, root.findtext("filename"))
        return _VocAnnotation(name, image, size, classes, tuple(box for _, box in objects))

    def names(self) -> tuple[str, ...]:
        return tuple(sorted(self.found)) if self.given is None else self.given

    def list_image(self, annotation: _VocAnnotation) -> ListedImage:
        names = self.names()
        known = [row for row, label in enumerate(annotation.classes) if label in names]
        for row in set(range(len(annotation.classes))) - set(known):
            self.problems.add(
                f"{annotation.name}: object {row + 1}: "
                f"the class {annotation.classes[row]!r} is not in the list of classes"
            )
        boxes = np.array([annotation.boxes[row] for row in known], np.float64).reshape(-1, 4) - (
            1,
            1,
            0,
            0,
        )
        labels = np.array([names.index(annotation.classes[row]) for row in known], np.int64)
        ids = tuple(row + 1 for row in known)
        return ListedImage(
            annotation.name, annotation.image, labels, boxes, ids, size_hw=annotation.size_hw
        )


class _LabelMapReader:
    """Reads label maps: PNGs whose palette indices are classes; 0 is background, 255 is ignored."""

    def __init__(self, path: Path, problems: ProblemList) -> None:
        self.path, self.given = path, _read_class_names(path) or NAMES
        self.digest = hashlib.sha256(repr(self.given).encode())

    def read(self, stem: str) -> _VocAnnotation:
        file = self.path / "SegmentationClass" / f"{stem}.png"
        if file.is_file():  # a missing file is reported by AnnotationChecker
            self.digest.update(file.read_bytes())
        return _VocAnnotation(
            f"SegmentationClass/{stem}.png", _find_image(self.path / "JPEGImages", stem, None)
        )

    def names(self) -> tuple[str, ...]:
        return self.given

    def list_image(self, annotation: _VocAnnotation) -> ListedImage:
        return ListedImage(
            annotation.name,
            annotation.image,
            np.zeros(0, np.int64),
            empty_boxes(),
            label_map=self.path / annotation.name,
        )


def _read_class_names(path: Path) -> tuple[str, ...] | None:
    file = next(
        (path / name for name in ("labels.txt", "classes.txt") if (path / name).is_file()), None
    )
    if file is None:
        return None
    names = [
        line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines() if line.strip()
    ]
    if len(set(names)) < len(names):
        raise ConfigError(f"{file}: a class stands in it twice.")
    return tuple(drop_background(names))


def _read_stems(file: Path) -> list[str]:
    """Read one name per line; the second column of VOC's lists for one class is ignored."""
    return [
        line.split()[0]
        for line in file.read_text(encoding="utf-8-sig").splitlines()
        if line.strip()
    ]


def _find_image(folder: Path, stem: str, named: str | None) -> Path:
    """Find an image by the name in its annotation, or else by the annotation's own name.

    If there is none, return the path where it should be.
    """
    names = [Path(named).name] if named else []
    candidates = [
        folder / name
        for name in (*names, *(f"{stem}{suffix}" for suffix in sorted(IMAGE_SUFFIXES)))
    ]
    return next(
        (path for path in candidates if path.is_file()),
        candidates[0] if names else folder / f"{stem}.jpg",
    )


def _find_text(parent: Element, path: str) -> str:
    text = parent.findtext(path)
    if not text or not text.strip():
        raise ValueError(f"an object has no {path.replace('/', ', ')}")
    return text.strip()


def parse_xml(data: bytes) -> Element:
    """Parse XML safely.

    Document type declarations are refused, because entities can grow without bounds or read files.

    Raises:
        ValueError: The document has a document type declaration.
        ExpatError: The document is not well-formed.
    """

    def refuse(*_: object) -> None:
        raise ValueError("it has a document type declaration, which is not read")

    builder, parser = TreeBuilder(), expat.ParserCreate()
    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler, parser.EndElementHandler = builder.start, builder.end
    parser.CharacterDataHandler = builder.data
    parser.Parse(data, True)
    return builder.close()
