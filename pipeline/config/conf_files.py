"""Read the YAML files in conf/: which components there are, their settings and their comments."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from pipeline.core.package_files import find_resource

# The program chooses from these folders itself: the format from `model=`, the head from the
# format's file, the exporter from `to=`.
_NOT_ON_THE_COMMAND_LINE = {"format", "head", "exporter"}
_LINE = re.compile(r"(?P<indent> *)(?P<name>\w+):(?: +(?P<value>.*?))?(?: +# (?P<comment>.*))?$")


@dataclass(frozen=True)
class ComponentSetting:
    """A setting of a component, e.g. `every` in conf/source/video.yaml."""

    name: str  # without the kind; dotted if nested, e.g. `overlays.quality`
    value: str  # as the file writes it
    comment: str

    @property
    def is_reference(self) -> bool:
        """Whether the value is copied from another setting, e.g. `root: ${input}`."""
        return self.value.startswith("${")


@dataclass(frozen=True)
class ComponentFile:
    """A component that can be chosen in the configuration, described by its file in conf/."""

    name: str
    summary: str
    settings: tuple[ComponentSetting, ...]


def list_kinds() -> set[str]:
    """List the folders of conf/ whose files can be chosen on the command line."""
    folders = {path.name for path in find_resource("conf").iterdir() if path.is_dir()}
    return folders - _NOT_ON_THE_COMMAND_LINE


def list_choices(kind: str) -> list[str]:
    """List the components of a kind. The list is empty if there is no such kind."""
    return sorted(path.stem for path in (find_resource("conf") / kind).glob("*.yaml"))


@cache
def read_default_choices() -> dict[str, Any]:
    """Read the default components from conf/config.yaml: for each kind a name or a list."""
    config: Any = OmegaConf.to_container(OmegaConf.load(find_resource("conf") / "config.yaml"))
    entries = [item for item in config["defaults"] if isinstance(item, dict)]
    return {kind: name for item in entries for kind, name in item.items() if kind in list_kinds()}


def list_setting_names(kind: str, component: str = "*") -> set[str]:
    """List the names of the settings of one component, or of all components of a kind."""
    files = (find_resource("conf") / kind).glob(f"{component}.yaml")
    return {name for path in files for name in _setting_names(path)}


def read_component_file(kind: str, name: str) -> ComponentFile:
    """Read a component's settings and comments.

    The comment at the top of the file is the summary. The comment of a setting follows it on the
    same line and may continue on the next lines.
    """
    path = find_resource("conf") / kind / f"{name}.yaml"
    lines = path.read_text(encoding="utf-8").splitlines()
    names = _setting_names(path)

    settings = [item for item in _read_settings(lines, kind) if item.name in names]
    summary = [line.removeprefix("# ") for line in _leading_comments(lines)]
    return ComponentFile(name, " ".join(summary), tuple(settings))


def _leading_comments(lines: list[str]) -> Iterator[str]:
    for line in lines:
        if not line.startswith("#"):
            return
        if not line.startswith("# @package"):
            yield line


def _read_settings(lines: list[str], kind: str) -> Iterator[ComponentSetting]:
    """Yield the setting of each line `name: value  # comment`, nested settings included."""
    parents: dict[int, str] = {}  # indentation -> name of the enclosing setting
    found: list[ComponentSetting] = []

    for line in lines:
        if match := _LINE.fullmatch(line):
            indent = len(match["indent"])
            parents = {depth: name for depth, name in parents.items() if depth < indent}
            parents[indent] = match["name"]
            name = ".".join(parents.values()).removeprefix(f"{kind}.")
            found.append(ComponentSetting(name, match["value"] or "", match["comment"] or ""))
        elif line.lstrip().startswith("# ") and found:
            last = found.pop()
            comment = f"{last.comment} {line.strip().removeprefix('# ')}"
            found.append(ComponentSetting(last.name, last.value, comment.strip()))

    nested = {item.name.rpartition(".")[0] for item in found}
    yield from (item for item in found if item.name not in nested)


def _setting_names(path: Path) -> list[str]:
    content: Any = OmegaConf.to_container(OmegaConf.load(path))
    found: list[str] = []

    # In a file with `# @package _global_` the component is a node below the key of its kind.
    for name, value in content.get(path.parent.name, content).items():
        nested = [key for key in value if key != "_target_"] if isinstance(value, dict) else []
        found += [name, *(f"{name}.{key}" for key in nested)]

    return [
        name
        for name in found
        if name not in ("_target_", "defaults") and not name.startswith("presets")
    ]
