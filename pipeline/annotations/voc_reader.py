"""Read Pascal VOC folders.

Annotations/*.xml has the boxes, SegmentationClass/*.png has the classes of pixels, and ImageSets
lists the images of each part.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree.ElementTree import Element
from xml.parsers import expat

import numpy as np

from pipeline.annotations.class_lists import ClassList, read_class_list
from pipeline.annotations.dataset_listing import (
    AnnotationRequest,
    DatasetListing,
    ListedImage,
    ProblemList,
    empty_boxes,
)
from pipeline.annotations.file_finder import StemFinder
from pipeline.annotations.other_formats import describe_xml
from pipeline.annotations.voc_layout import VocAnnotation, VocLayout, find_image, read_voc_layout
from pipeline.annotations.xml_files import parse_xml
from pipeline.core.errors import ConfigError
from pipeline.inputs.decoding.formats import IMAGE_SUFFIXES

TASKS = frozenset({"detect", "segment"})
NAMES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
    "tvmonitor",
)  # fmt: skip
_SIDES = ("xmin", "ymin", "xmax", "ymax")


def read_voc(path: Path, request: AnnotationRequest, problems: ProblemList) -> DatasetListing:
    """Read a VOC folder.

    The parts are train.txt and val.txt in ImageSets/Main, or for task=segment in
    ImageSets/Segmentation. Without train.txt all annotated images are training images. The class
    names are the lines of labelmap.txt, labels.txt or classes.txt. Without these files, label maps
    have VOC's twenty classes, and boxes have the classes that occur in the annotations.

    Raises:
        ConfigError: The folder lacks the annotations of this task.
        OSError: A file cannot be read.
    """
    try:
        layout = read_voc_layout(path, request)
    except ConfigError as error:
        raise ConfigError(f"{problems.what}: {error}") from None
    classes = read_class_list(path) or (read_class_list(path.parent) if layout.is_flat else None)
    reader: _LabelMapReader | _BoxReader = (
        _LabelMapReader(layout, classes)
        if request.task == "segment"
        else _BoxReader(layout, classes, problems)
    )
    read = {
        part: [item for annotation in annotations if (item := reader.read(annotation))]
        for part, annotations in layout.parts.items()
    }
    names = reader.list_names()
    parts = {
        part: [reader.list_image(item, names) for item in items] for part, items in read.items()
    }
    return DatasetListing(names, parts, reader.digest.hexdigest(), named_by_stem=True)


@dataclass(frozen=True)
class _Annotated:
    """The annotation of one image."""

    name: str
    key: str  # the image's name below the folder of images
    image: Path
    file: Path
    size_hw: tuple[int, int] | None = None
    classes: tuple[str, ...] = ()
    boxes: tuple[Sequence[float], ...] = ()  # xyxy, counted from 1 as in VOC


class _BoxReader:
    """Reads boxes from XML files.

    VOC counts pixels from 1 and includes the last pixel of a box, so 1 is subtracted from x_min
    and y_min. Objects marked `difficult` are included.
    """

    def __init__(self, layout: VocLayout, classes: ClassList | None, problems: ProblemList) -> None:
        self.layout, self.problems = layout, problems
        self.given = None if classes is None else classes.names
        self.found: set[str] = set()
        self.images = StemFinder(IMAGE_SUFFIXES)
        self.digest = hashlib.sha256(repr(self.given).encode())

    def read(self, annotation: VocAnnotation) -> _Annotated | None:
        name = _describe(annotation)
        try:
            data = annotation.file.read_bytes()
            self.digest.update(data)
            root = parse_xml(data)
            if root.tag != "annotation":
                other = describe_xml(annotation.file)
                raise ValueError(f"its root is <{root.tag}>, not VOC's <annotation>.{other}")
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
        image = find_image(self.layout, annotation, root.findtext("filename"), self.images)
        return _Annotated(
            name,
            (Path(annotation.stem).parent / image.name).as_posix(),
            image,
            annotation.file,
            (sides[0], sides[1]) if all(side > 0 for side in sides) else None,
            classes,
            tuple(box for _, box in objects),
        )

    def list_names(self) -> tuple[str, ...]:
        return tuple(sorted(self.found)) if self.given is None else self.given

    def list_image(self, annotated: _Annotated, names: Sequence[str]) -> ListedImage:
        known = [row for row, label in enumerate(annotated.classes) if label in names]
        for row in set(range(len(annotated.classes))) - set(known):
            self.problems.add(
                f"{annotated.name}: object {row + 1}: "
                f"the class {annotated.classes[row]!r} is not in the list of classes"
            )
        boxes = np.array([annotated.boxes[row] for row in known], np.float64).reshape(-1, 4) - (
            1,
            1,
            0,
            0,
        )
        labels = np.array([names.index(annotated.classes[row]) for row in known], np.int64)
        return ListedImage(
            annotated.name,
            annotated.image,
            labels,
            boxes,
            tuple(row + 1 for row in known),
            size_hw=annotated.size_hw,
            key=annotated.key,
        )


class _LabelMapReader:
    """Reads label maps: PNGs whose values are classes; 0 is background, 255 is ignored.

    The values are palette indices, or the colours of labelmap.txt.
    """

    def __init__(self, layout: VocLayout, classes: ClassList | None) -> None:
        self.layout = layout
        self.given = classes.names if classes and classes.names else NAMES
        self.values = classes.values if classes and classes.values else None
        self.images = StemFinder(IMAGE_SUFFIXES)
        self.digest = hashlib.sha256(repr(self.given).encode())
        if self.values:
            self.digest.update(repr(sorted(self.values.items())).encode())

    def read(self, annotation: VocAnnotation) -> _Annotated:
        if annotation.file.is_file():  # a missing file is reported by AnnotationChecker
            self.digest.update(annotation.file.read_bytes())
        image = find_image(self.layout, annotation, None, self.images)
        key = (Path(annotation.stem).parent / image.name).as_posix()
        return _Annotated(_describe(annotation), key, image, annotation.file)

    def list_names(self) -> tuple[str, ...]:
        return self.given

    def list_image(self, annotated: _Annotated, names: Sequence[str]) -> ListedImage:
        return ListedImage(
            annotated.name,
            annotated.image,
            np.zeros(0, np.int64),
            empty_boxes(),
            label_map=annotated.file,
            colour_values=self.values,
            key=annotated.key,
        )


def _describe(annotation: VocAnnotation) -> str:
    return "/".join(filter(None, (annotation.folder, annotation.stem + annotation.file.suffix)))


def _find_text(parent: Element, path: str) -> str:
    text = parent.findtext(path)
    if not text or not text.strip():
        raise ValueError(f"an object has no {path.replace('/', ', ')}")
    return text.strip()
