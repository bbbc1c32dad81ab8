"""Read lists of class names; the index of a name is the model's own class id."""

import json
import re
from collections.abc import Mapping
from typing import Any

from torchvision.models import ResNet50_Weights
from torchvision.models.detection import (
    FasterRCNN_ResNet50_FPN_V2_Weights,
    KeypointRCNN_ResNet50_FPN_Weights,
)
from yaml import YAMLError

from pipeline.core.background import BACKGROUND
from pipeline.core.errors import ConfigError, suggest_nearest
from pipeline.core.locations import expand_home
from pipeline.core.yaml_text import load_text

_BUILT_IN = {
    "coco": FasterRCNN_ResNet50_FPN_V2_Weights.DEFAULT,  # 91 ids, with background and unused ids
    "imagenet": ResNet50_Weights.DEFAULT,
}
COCO_KEYPOINTS: tuple[str, ...] = tuple(
    KeypointRCNN_ResNet50_FPN_Weights.DEFAULT.meta["keypoint_names"]
)
_MAX_CLASS_ID = 100_000


def load_categories(given: str) -> tuple[str, ...]:
    """Load the class names that the setting `categories` names.

    Args:
        given: `coco`, `imagenet`, or a file: text with one name a line, or JSON. JSON may be a
            list of names, `{"0": "cat"}`, `{"0": ["n01440764", "tench"]}`
            (imagenet_class_index.json), `{"cat": 0}`, or a COCO file with `categories`. YAML may
            be the same, or have it below `names`, as YOLO's data.yaml has. Names are the text as
            written, also `no` and `007`.

    Returns:
        The names; missing ids are `N/A`.

    Raises:
        ConfigError: There is no such file, or it is not a list of names.
    """
    if given in _BUILT_IN:
        return tuple(_BUILT_IN[given].meta["categories"])
    path = expand_home(given)
    if not path.is_file():
        raise ConfigError(
            f"categories={given}: expected coco, imagenet, or a text, JSON or YAML file; "
            f"there is no file {path}.{suggest_nearest(given, _BUILT_IN)}"
        )

    try:
        text = path.read_text(encoding="utf-8-sig")
        names = _parse_names(text, path.suffix.casefold())
    except (ValueError, KeyError, TypeError, IndexError, RecursionError, YAMLError) as error:
        reason = str(error).splitlines()[0]  # ValueError: also wrong UTF-8
        raise ConfigError(
            f"categories={given}: not a list of class names ({type(error).__name__}: {reason})."
        ) from None
    if not names:
        raise ConfigError(f"categories={given}: the file holds no class names.")
    return names


def add_background(names: tuple[str, ...]) -> tuple[str, ...]:
    """Add the background as class 0, as torchvision's detectors have it, if it is missing."""
    return names if names[0].casefold() in (BACKGROUND, "background") else (BACKGROUND, *names)


def _parse_names(text: str, suffix: str) -> tuple[str, ...]:
    if suffix == ".json":
        # Numbers stay as they are written: 1.10 is no 1.1.
        return _parse_content(json.loads(text, parse_float=str))
    if suffix in (".yaml", ".yml"):
        return _parse_content(load_text(text))
    return tuple(line.strip() for line in re.split("\r\n|\n|\r", text) if line.strip())


def _parse_content(content: Any) -> tuple[str, ...]:
    if isinstance(content, list):
        return tuple(map(_read_name, content))
    if not isinstance(content, dict):
        raise TypeError(f"expected a list or a mapping, got {type(content).__name__}")
    if isinstance(content.get("names"), list | dict):  # YOLO's data.yaml
        return _parse_content(content["names"])
    if isinstance(content.get("categories"), list):
        return _order_by_id({int(c["id"]): _read_name(c["name"]) for c in content["categories"]})

    if all(isinstance(value, int) for value in content.values()) or not _has_ids(content):
        return _order_by_id({int(value): key for key, value in content.items()})
    return _order_by_id({int(key): _read_name(value) for key, value in content.items()})


def _has_ids(content: Mapping[str, Any]) -> bool:
    """Return whether the keys of a mapping are class ids."""
    return all(str(key).strip().isdecimal() for key in content)


def _read_name(value: Any) -> str:
    if isinstance(value, list):
        value = value[1]
    if not isinstance(value, str | int) or isinstance(value, bool) or not str(value).strip():
        raise ValueError(f"{json.dumps(value)} is not a class name; names are texts")
    return str(value).strip()


def _order_by_id(by_id: dict[int, str]) -> tuple[str, ...]:
    """Return the names in the order of their ids, with `N/A` for missing ids."""
    if not by_id:
        return ()
    if min(by_id) < 0 or max(by_id) > _MAX_CLASS_ID:
        raise ValueError(f"class ids from {min(by_id)} to {max(by_id)}")
    names = {0: BACKGROUND} | by_id  # ids that begin with 1 belong to a detector
    return tuple(names.get(i, "N/A") for i in range(max(names) + 1))
