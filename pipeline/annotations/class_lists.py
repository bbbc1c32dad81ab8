"""Read the class names of a folder, with the colours that stand for them in label maps."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from pipeline.annotations.dataset_listing import drop_background
from pipeline.annotations.text_files import read_lines
from pipeline.core.background import is_background
from pipeline.core.errors import ConfigError
from pipeline.ops.masks import IGNORED_LABEL

Colour: TypeAlias = tuple[int, int, int]
_IGNORED_COLOUR = (224, 224, 192)  # VOC's outlines of objects
_IGNORED_NAMES = ("ignored", "void")


@dataclass(frozen=True)
class ClassList:
    """The classes of a data set, without the background."""

    file: Path
    names: tuple[str, ...]
    # Colour -> value in a label map: 0 background, class index + 1, 255 ignored
    values: Mapping[Colour, int] = field(default_factory=dict)


def read_class_list(folder: Path) -> ClassList | None:
    """Read labelmap.txt, labels.txt or classes.txt of a folder; None without such a file.

    A line of labelmap.txt is `name:red,green,blue:parts:actions`, as CVAT and datumaro write it.
    The colours may be left out.

    Raises:
        ConfigError: A class or a colour stands there twice, or a colour is none.
    """
    for name, read in (
        ("labelmap.txt", _read_label_map),
        ("labels.txt", _read_names),
        ("classes.txt", _read_names),
    ):
        if (folder / name).is_file():
            return read(folder / name)
    return None


def _read_names(file: Path) -> ClassList:
    return ClassList(file, _check_names(file, read_lines(file)))


def _read_label_map(file: Path) -> ClassList:
    lines = [line for line in read_lines(file) if not line.startswith("#")]
    rows = [_split_line(file, line) for line in lines]
    ignored = [name for name, _ in rows if name.casefold() in _IGNORED_NAMES]
    names = _check_names(file, [name for name, _ in rows if name not in ignored])
    value_of = {name: i for i, name in enumerate(names, start=1)}
    value_of |= dict.fromkeys(ignored, IGNORED_LABEL)
    values: dict[Colour, int] = {}
    for name, colour in rows:
        if colour is None:
            continue
        value = 0 if is_background(name) else value_of[name]
        if values.setdefault(colour, value) != value:
            raise ConfigError(f"{file}: two classes have the colour {_format(colour)}.")
    if values:
        values.setdefault((0, 0, 0), 0)
        values.setdefault(_IGNORED_COLOUR, IGNORED_LABEL)
    return ClassList(file, names, values)


def _split_line(file: Path, line: str) -> tuple[str, Colour | None]:
    # From the right, because a class name may have colons.
    name, colour, *_ = line.rsplit(":", 3) if line.count(":") >= 3 else [*line.split(":"), ""]
    if not colour.strip():
        return name.strip(), None
    try:
        red, green, blue = (int(part) for part in colour.split(","))
        if not all(0 <= part <= 255 for part in (red, green, blue)):
            raise ValueError
    except ValueError:
        raise ConfigError(
            f"{file}: expected name:red,green,blue:: with 0 to 255, got {line!r}."
        ) from None
    return name.strip(), (red, green, blue)


def _check_names(file: Path, names: list[str]) -> tuple[str, ...]:
    if len(set(names)) < len(names):
        raise ConfigError(f"{file}: a class stands in it twice.")
    return tuple(drop_background(names))


def _format(colour: Colour) -> str:
    return ",".join(map(str, colour))
