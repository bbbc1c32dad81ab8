"""Detect the format of an annotated data set and read it."""

from pathlib import Path

from pipeline.annotations.class_folder_reader import TASKS as CLASS_TASKS
from pipeline.annotations.class_folder_reader import read_class_folders
from pipeline.annotations.coco_reader import TASKS as COCO_TASKS
from pipeline.annotations.coco_reader import guess_image_folders, read_coco
from pipeline.annotations.dataset_listing import DatasetListing, ProblemList
from pipeline.annotations.voc_reader import TASKS as VOC_TASKS
from pipeline.annotations.voc_reader import has_voc_layout, read_voc
from pipeline.annotations.yolo_reader import TASKS as YOLO_TASKS
from pipeline.annotations.yolo_reader import read_yolo
from pipeline.core.errors import ConfigError

EXPECTED = (
    "a .json file in COCO's format, YOLO's data.yaml, a folder with Annotations/*.xml as VOC's, "
    "or for task=classify a "
    "folder with a sub-folder for each class"
)


def read_annotations(
    path: Path, task: str, images: Path | None, problems: ProblemList, others: bool = False
) -> DatasetListing:
    """Read a data set in any of the supported formats.

    Args:
        path: The file or folder.
        task: The task.
        images: The folder of a COCO file's images.
        problems: Receives the problems of single images.
        others: Whether `images` belongs to another data set. If so, it is searched last.

    Raises:
        ConfigError: There is no data set of a supported format for this task.
    """
    what = problems.what
    if not path.exists():
        raise ConfigError(f"{what}: there is no such file or folder. Expected {EXPECTED}.")
    suffix = path.suffix.casefold()
    try:
        if path.is_file() and suffix == ".json":
            _check_format_has_task(what, task, "COCO's format", COCO_TASKS)
            own = guess_image_folders(path)
            folders = own if images is None else [*own, images] if others else [images]
            return read_coco(path, task, folders, problems)
        if path.is_file() and suffix in (".yaml", ".yml"):
            _check_format_has_task(what, task, "YOLO's format", YOLO_TASKS)
            return read_yolo(path, task, problems)
        if path.is_dir() and has_voc_layout(path):
            _check_format_has_task(what, task, "VOC's format", VOC_TASKS)
            return read_voc(path, task, problems)
        if path.is_dir() and task in CLASS_TASKS:
            return read_class_folders(path, problems)
    except OSError as error:
        raise ConfigError(f"{what}: {error.filename or path}: {error.strerror or error}.") from None
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{what}: one of its lists of names is no text in UTF-8 ({error})."
        ) from None
    inside = next(
        (
            file.name
            for pattern in ("*.yaml", "*.yml", "*.json")
            for file in sorted(path.glob(pattern))
        ),
        None,
    )
    hint = f" Did you mean {path / inside}?" if inside and path.is_dir() else ""
    raise ConfigError(f"{what}: for task={task} expected {EXPECTED}.{hint}")


def _check_format_has_task(what: str, task: str, form: str, tasks: frozenset[str]) -> None:
    if task not in tasks:
        raise ConfigError(
            f"{what}: {form} has nothing for task={task}; it has {', '.join(sorted(tasks))}. "
            "task=classify learns from a folder with a sub-folder for each class."
        )
