"""Read lists of class names; the index of a name is the model's own class id."""

import json
from typing import Any

from torchvision.models import ResNet50_Weights
from torchvision.models.detection import (
    FasterRCNN_ResNet50_FPN_V2_Weights,
    KeypointRCNN_ResNet50_FPN_Weights,
)

from pipeline.core.background import BACKGROUND
from pipeline.core.errors import ConfigError, suggest_nearest
from pipeline.core.locations import expand_home

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
            (imagenet_class_index.json), `{"cat": 0}`, or a COCO file with `categories`.

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
            f"categories={given}: expected coco, imagenet, or a text or JSON file; "
            f"there is no file {path}.{suggest_nearest(given, _BUILT_IN)}"
        )

    try:
        text = path.read_text(encoding="utf-8-sig")
        is_json = path.suffix.casefold() == ".json"
        names = _parse_json(json.loads(text)) if is_json else _parse_lines(text)
    except (ValueError, KeyError, TypeError, IndexError) as error:  # ValueError: also wrong UTF-8
        raise ConfigError(
            f"categories={given}: not a list of class names ({type(error).__name__}: {error})."
        ) from None
    if not names:
        raise ConfigError(f"categories={given}: the file holds no class names.")
    return names


def add_background(names: tuple[str, ...]) -> tuple[str, ...]:
    """Add the background as class 0, as torchvision's detectors have it, if it is missing."""
    return names if names[0].casefold() in (BACKGROUND, "background") else (BACKGROUND, *names)


def _parse_lines(text: str) -> tuple[str, ...]:
    return tuple(line.strip() for line in text.splitlines() if line.strip())


def _parse_json(content: Any) -> tuple[str, ...]:
    if isinstance(content, list):
        return tuple(str(name) for name in content)
    if not isinstance(content, dict):
        raise TypeError(f"expected a list or a mapping, got {type(content).__name__}")
    if "categories" in content and isinstance(content["categories"], list):
        return _order_by_id({int(c["id"]): str(c["name"]) for c in content["categories"]})

    by_id: dict[int, str] = {}
    for key, value in content.items():
        if isinstance(value, int):
            by_id[value] = str(key)
        else:
            by_id[int(key)] = str(value[1]) if isinstance(value, list) else str(value)
    return _order_by_id(by_id)


def _order_by_id(by_id: dict[int, str]) -> tuple[str, ...]:
    """Return the names in the order of their ids, with `N/A` for missing ids."""
    if not by_id:
        return ()
    if min(by_id) < 0 or max(by_id) > _MAX_CLASS_ID:
        raise ValueError(f"class ids from {min(by_id)} to {max(by_id)}")
    names = {0: BACKGROUND} | by_id  # ids that begin with 1 belong to a detector
    return tuple(names.get(i, "N/A") for i in range(max(names) + 1))
