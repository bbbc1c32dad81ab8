"""Detect the format of an annotated data set and read it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.annotations.class_folder_reader import TASKS as CLASS_TASKS
from pipeline.annotations.class_folder_reader import read_class_folders
from pipeline.annotations.coco_layout import find_coco_files, has_coco_file, join_listings
from pipeline.annotations.coco_reader import TASKS as COCO_TASKS
from pipeline.annotations.coco_reader import read_coco
from pipeline.annotations.dataset_listing import AnnotationRequest, DatasetListing, ProblemList
from pipeline.annotations.other_formats import describe_xml
from pipeline.annotations.voc_layout import has_voc_layout
from pipeline.annotations.voc_reader import TASKS as VOC_TASKS
from pipeline.annotations.voc_reader import read_voc
from pipeline.annotations.yolo_layout import find_class_file
from pipeline.annotations.yolo_reader import TASKS as YOLO_TASKS
from pipeline.annotations.yolo_reader import read_yolo
from pipeline.core.errors import ConfigError
from pipeline.core.keys import read_suffix
from pipeline.core.passed_over import is_passed_over_name

Reader = Callable[[Path, AnnotationRequest, ProblemList], DatasetListing]
EXPECTED = (
    "a .json file in COCO's format, YOLO's data.yaml, a folder with Annotations/*.xml as VOC's, "
    "or for task=classify a "
    "folder with a sub-folder for each class"
)
_YAML = (".yaml", ".yml")


@dataclass(frozen=True)
class _Format:
    name: str
    tasks: frozenset[str]
    read: Reader


def read_annotations(
    path: Path, request: AnnotationRequest, problems: ProblemList
) -> DatasetListing:
    """Read a data set in any of the supported formats.

    Args:
        path: The file or folder.
        request: What to read.
        problems: Receives the problems of single images.

    Raises:
        ConfigError: There is no data set of a supported format for this task.
    """
    what = problems.what
    if not path.exists():
        raise ConfigError(f"{what}: there is no such file or folder. Expected {EXPECTED}.")
    found = _find_format(path, request.task)
    if found is None:
        raise ConfigError(f"{what}: for task={request.task} expected {EXPECTED}.{_hint(path)}")
    form, place = found
    if not request.training and request.task not in form.tasks and "detect" in form.tasks:
        request = replace(request, task="detect")  # boxes are better than nothing
    if request.task not in form.tasks:
        raise ConfigError(
            f"{what}: {form.name} has nothing for task={request.task}; it has "
            f"{', '.join(sorted(form.tasks))}. "
            "task=classify learns from a folder with a sub-folder for each class."
        )
    try:
        return form.read(place, request, problems)
    except OSError as error:
        raise ConfigError(f"{what}: {error.filename or path}: {error.strerror or error}.") from None
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{what}: one of its lists of names is no text in UTF-8 ({error})."
        ) from None


def has_format(path: Path, task: str) -> bool:
    """Return whether a path looks like a data set in one of the supported formats."""
    return _find_format(path, task) is not None


def _find_format(path: Path, task: str) -> tuple[_Format, Path] | None:
    """Return the format of a data set, and the file or folder that its reader takes."""
    if path.is_file():
        suffix = read_suffix(path.name)
        form = _COCO if suffix == ".json" else _YOLO if suffix in (*_YAML, ".data") else None
        return None if form is None else (form, path)
    form = _find_folder_format(path, task)
    description = _find_description(path) if form is _YOLO else None
    return None if form is None else (form, description or path)


def _find_folder_format(path: Path, task: str) -> _Format | None:
    annotations = path / "Annotations"
    if annotations.is_dir() and not _list_json(annotations):
        return _VOC
    rules = (
        (_CLASSES, task in CLASS_TASKS),
        (_YOLO, _find_description(path) is not None),
        (_COCO_FOLDER, has_coco_file(path)),
        (_VOC, has_voc_layout(path)),
        (_YOLO, find_class_file(path) is not None),
    )
    return next((form for form, applies in rules if applies), None)


def _list_json(folder: Path) -> list[Path]:
    return [file for file in folder.glob("*.json") if not is_passed_over_name(file.name)]


def _find_description(folder: Path) -> Path | None:
    """Return the YAML file or the *.data file that describes a YOLO data set."""
    files = [
        file
        for file in sorted(folder.iterdir())
        if read_suffix(file.name) in (*_YAML, ".data") and not is_passed_over_name(file.name)
    ]
    usual = [file for file in files if file.stem in ("data", "dataset", "obj")]
    return files[0] if len(files) == 1 else usual[0] if usual else None


def _read_coco_folder(
    path: Path, request: AnnotationRequest, problems: ProblemList
) -> DatasetListing:
    files = find_coco_files(path, request.task)
    listings = {
        part: read_coco(file, request, problems)
        for part, file in files.items()
        if part in request.parts
    }
    return join_listings(listings)


def _read_classes(path: Path, request: AnnotationRequest, problems: ProblemList) -> DatasetListing:
    return read_class_folders(path, problems)


_COCO = _Format("COCO's format", COCO_TASKS, read_coco)
_COCO_FOLDER = _Format("COCO's format", COCO_TASKS, _read_coco_folder)
_YOLO = _Format("YOLO's format", YOLO_TASKS, read_yolo)
_VOC = _Format("VOC's format", VOC_TASKS, read_voc)
_CLASSES = _Format("a folder for each class", CLASS_TASKS, _read_classes)


def _hint(path: Path) -> str:
    if not path.is_dir():
        return describe_xml(path) if read_suffix(path.name) == ".xml" else ""
    inside = next(
        (
            file.name
            for pattern in ("*.yaml", "*.yml", "*.json")
            for file in sorted(path.glob(pattern))
            if not is_passed_over_name(file.name)
        ),
        None,
    )
    return f" Did you mean {path / inside}?" if inside else ""
