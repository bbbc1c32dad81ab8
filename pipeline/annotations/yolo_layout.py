"""Find the classes and images of a YOLO data set: data.yaml, obj.data, or folders alone."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from yaml import YAMLError

from pipeline.annotations.dataset_listing import AnnotationRequest
from pipeline.annotations.file_finder import drop_suffix, list_files
from pipeline.annotations.text_files import decode_text, read_lines
from pipeline.annotations.yolo_keypoints import find_point_names, read_point_shape
from pipeline.core.errors import ConfigError
from pipeline.core.name_matching import list_tails, tidy_path
from pipeline.core.passed_over import is_passed_over_name
from pipeline.core.yaml_text import load_mapping
from pipeline.storage.named_files import NamedFiles

NOT_LABELS = frozenset(
    {
        "classes.txt",
        "labels.txt",
        "labelmap.txt",
        "notes.txt",
        "train.txt",
        "val.txt",
        "valid.txt",
        "test.txt",
    }
)
_CLASS_FILES = ("classes.txt", "labels/classes.txt", "obj.names", "labels.txt")
_UNREADABLE = (YAMLError, RecursionError)
_TEXTS = ("names", "kpt_names", "path", "train", "val", "valid", "validation", "test")
_PART_KEYS = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}


@dataclass(frozen=True)
class YoloLayout:
    """The classes and images of a data set."""

    file: Path  # what names the classes, for messages
    root: Path  # what the names of images are relative to
    names: Mapping[int, str]  # class number in the labels -> name
    parts: Mapping[str, list[Path]]  # train, val, test -> images
    point_shape: tuple[int, ...] = ()
    point_names: tuple[str, ...] = ()
    # Image without its suffix -> its labels, where only these are there
    labels_of: Mapping[Path, Path] = field(default_factory=dict)


def read_yolo_layout(path: Path, request: AnnotationRequest) -> YoloLayout:
    """Read a data.yaml, an obj.data, or a folder of images and labels with classes.txt.

    Raises:
        ConfigError: It is not a YOLO data set.
        OSError: A file cannot be read.
    """
    try:
        if path.is_dir():
            return _read_folder(path, request)
        if path.suffix.casefold() == ".data":
            return _read_darknet(path, request)
        return _read_yaml(path, request)
    except (*_UNREADABLE, ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(
            f"{path}: expected YOLO's data.yaml, with train and names ({why})."
        ) from None


def find_class_file(folder: Path) -> Path | None:
    """Return the file that lists the classes of a YOLO folder without a data.yaml."""
    found = next((folder / name for name in _CLASS_FILES if (folder / name).is_file()), None)
    places = (folder / "labels", folder)
    has_labels = any(
        file.name not in NOT_LABELS and not is_passed_over_name(file.name)
        for place in places
        for file in place.glob("*.txt")
    )
    return found if has_labels or (folder / "labels").is_dir() else None


def find_label_folder(images: Path) -> Path:
    """Return the folder of the labels of images in a folder: the last `images` becomes `labels`."""
    parts = list(images.parts)
    last = max(
        (i for i, part in enumerate(parts) if part.casefold() == "images"), default=len(parts)
    )
    if last < len(parts):
        parts[last] = "labels"
    return Path(*parts)


def _read_yaml(path: Path, request: AnnotationRequest) -> YoloLayout:
    data = load_mapping(decode_text(path.read_bytes()), _TEXTS)
    names = _read_names(data, path.parent)
    shape = read_point_shape(data)
    if request.task == "keypoints" and not shape:
        raise ValueError("task=keypoints needs its kpt_shape")
    root = path.parent / str(data.get("path") or "")
    if not root.is_dir():  # `path` may be valid only on the machine that wrote the file
        root = _find_place(str(data["path"]), [path.parent]) or path.parent
    given = {
        part: next((data[key] for key in keys if data.get(key)), None)
        for part, keys in _PART_KEYS.items()
    }
    if not any(given.values()):
        if not (path.parent / "images").is_dir():
            raise KeyError("train")
        given["train"] = "images"  # written by supervision
    lister = _ImageLister(path, root, request)
    parts = lister.list_parts(given)
    point_names = find_point_names(data, shape[0]) if request.task == "keypoints" else ()
    return YoloLayout(path, root, names, parts, shape, point_names, lister.labels_of)


def _read_darknet(path: Path, request: AnnotationRequest) -> YoloLayout:
    """Read Darknet's obj.data, with lines such as `train = data/train.txt`."""
    pairs = (line.partition("=") for line in read_lines(path))
    data = {key.strip(): value.strip() for key, equals, value in pairs if equals}
    names = _find_place(data["names"], [path.parent], shortest=1)
    if names is None:
        raise ConfigError(f"{path}: there is no {data['names']}, which it names.")
    given = {
        part: next((data[key] for key in keys if data.get(key)), None)
        for part, keys in _PART_KEYS.items()
    }
    lister = _ImageLister(path, path.parent, request)
    parts = lister.list_parts(given)
    return YoloLayout(path, path.parent, _number(names), parts, labels_of=lister.labels_of)


def _read_folder(path: Path, request: AnnotationRequest) -> YoloLayout:
    """Read folders `images` and `labels`, or images beside their labels, with classes.txt."""
    classes = find_class_file(path)
    if classes is None:
        raise KeyError("classes.txt")
    place = "images" if (path / "images").is_dir() or (path / "labels").is_dir() else "."
    lister = _ImageLister(classes, path, request)
    parts = lister.list_parts({"train": place})
    return YoloLayout(classes, path, _number(classes), parts, labels_of=lister.labels_of)


def _number(file: Path) -> dict[int, str]:
    """Number the classes that a file lists, one a line."""
    names = read_lines(file)
    if len(set(names)) < len(names):
        raise ValueError(f"two classes of {file.name} have one name")
    return dict(enumerate(names))


def _read_names(data: Mapping[str, Any], folder: Path) -> dict[int, str]:
    """Return the class names by their numbers. Without names, the classes are numbered."""
    names: Any = data.get("names")
    if isinstance(names, str):  # the name of a file
        names = read_lines(folder / names)
    if names is None and isinstance(data.get("nc"), int):
        names = [f"class_{number}" for number in range(data["nc"])]
    if names is None:
        names = data["names"]  # raises KeyError
    pairs = (
        enumerate(names)
        if isinstance(names, list)
        else ((int(number), name) for number, name in names.items())
    )
    found = {number: str(name) for number, name in sorted(pairs)}
    if len(set(found.values())) < len(found):
        raise ValueError("two classes have one name")
    if "" in found.values():
        raise ValueError("a class has no name")
    return found


def _find_place(given: str, folders: list[Path], shortest: int = 2) -> Path | None:
    """Find a file or folder by the longest tail of its path that exists below a folder.

    Args:
        given: The path, as it may have been valid on another machine.
        folders: Where to look.
        shortest: Number of parts that a tail must have.
    """
    tidy = tidy_path(given)
    tails = [tail for tail in list_tails(tidy) if tail.count("/") + 1 >= shortest]
    names = [given, *([tidy] if not tidy.startswith("/") else []), *list_tails(tidy)[:1], *tails]
    places = (folder / name for name in names for folder in folders)
    return next((place for place in places if place.exists()), None)


class _ImageLister:
    """Lists the images of the parts that a file names."""

    def __init__(self, file: Path, root: Path, request: AnnotationRequest) -> None:
        self.file, self.root, self.request = file, root, request
        self.labels_of: dict[Path, Path] = {}

    def list_parts(self, given: Mapping[str, Any]) -> dict[str, list[Path]]:
        """List the images of each part that is asked for.

        Raises:
            ConfigError: A folder or list does not exist.
        """
        parts: dict[str, list[Path]] = {}
        missing = []
        for part in self.request.parts:
            try:
                if given.get(part):
                    parts[part] = self._list_images(given[part])
            except ConfigError as error:
                if self.request.training:
                    raise
                missing.append(error)  # evaluation needs only the part that the run has
        if missing and not parts:
            raise missing[0]
        return parts

    def _list_images(self, given: Any) -> list[Path]:
        return [
            image
            for place in (given if isinstance(given, list) else [given])
            for image in self._list_place(str(place))
        ]

    def _list_place(self, given: str) -> list[Path]:
        is_list = given.casefold().endswith(".txt")
        found = _find_place(given, [self.root, self.file.parent], 1 if is_list else 2)
        if found is not None:
            return list_files(found) if found.is_dir() else self._read_list(found)
        labels = None
        if not self.request.training:  # labels alone are enough
            labels = _find_place(str(find_label_folder(Path(given))), [self.root, self.file.parent])
            labels = labels or _find_place("labels", [self.file.parent], 1)
        if labels is None or not labels.is_dir():
            raise ConfigError(f"{self.file}: there is no {self.root / given}, which it names.")
        self.labels_of |= {
            self.root / given / drop_suffix(file.relative_to(labels).as_posix()): file
            for file in list_files(labels, {".txt"})
            if file.name.casefold() not in NOT_LABELS
        }
        return list(self.labels_of)

    def _read_list(self, file: Path) -> list[Path]:
        """Read a list of images. `./` means the list's folder; other names begin at the root."""
        names = read_lines(file)
        paths = [(file.parent if name.startswith("./") else self.root) / name for name in names]
        files = NamedFiles([self.root, file.parent])
        for i, name in enumerate(names):
            if paths[i].is_file():
                continue
            paths[i] = files.find(name) or paths[i]
            if not self.request.training:  # labels alone are enough
                image = Path(tidy_path(name))
                labels = find_label_folder(image.parent) / f"{drop_suffix(image.name)}.txt"
                if not paths[i].is_file() and (found := files.find(str(labels))):
                    self.labels_of[paths[i]] = found
        return paths
