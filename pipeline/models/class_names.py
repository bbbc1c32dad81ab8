"""Class names: index = the model's own class id."""

import json
from pathlib import Path
from typing import Any

from torchvision.models import ResNet50_Weights
from torchvision.models.detection import FasterRCNN_ResNet50_FPN_V2_Weights

from pipeline.core.errors import ConfigError, suggest_nearest

BACKGROUND = "__background__"
_BUILT_IN = {
    "coco": FasterRCNN_ResNet50_FPN_V2_Weights.DEFAULT,  # 91 ids, background and gaps included
    "imagenet": ResNet50_Weights.DEFAULT,
}


def load_categories(given: str) -> tuple[str, ...]:
    """`coco`, `imagenet`, or a file: text (one name a line) or JSON.

    JSON may be a list of names, `{"0": "cat"}`, `{"0": ["n01440764", "tench"]}` (imagenet_class_index.json),
    `{"cat": 0}`, or a COCO file (its `categories`). Missing ids become `N/A`.
    """
    if given in _BUILT_IN:
        return tuple(_BUILT_IN[given].meta["categories"])
    path = Path(given).expanduser()
    if not path.is_file():
        raise ConfigError(
            f"categories={given}: expected coco, imagenet, or a text or JSON file; there is no file {path}."
            + suggest_nearest(given, _BUILT_IN)
        )
    try:
        text = path.read_text(encoding="utf-8-sig")
        names = (
            _from_json(json.loads(text)) if path.suffix.casefold() == ".json" else _from_lines(text)
        )
    except (
        ValueError,
        KeyError,
        TypeError,
        IndexError,
    ) as error:  # bytes that are no UTF-8 are a ValueError too
        raise ConfigError(
            f"categories={given}: not a list of class names ({type(error).__name__}: {error})."
        ) from None
    if not names:
        raise ConfigError(f"categories={given}: the file holds no class names.")
    return names


def add_background(names: tuple[str, ...]) -> tuple[str, ...]:
    """torchvision's detectors keep id 0 for the background; a list of the bare classes is moved up by one."""
    return names if names[0].casefold() in (BACKGROUND, "background") else (BACKGROUND, *names)


def _from_lines(text: str) -> tuple[str, ...]:
    return tuple(line.strip() for line in text.splitlines() if line.strip())


def _from_json(content: Any) -> tuple[str, ...]:
    if isinstance(content, list):
        return tuple(str(name) for name in content)
    if not isinstance(content, dict):
        raise TypeError(f"expected a list or a mapping, got {type(content).__name__}")
    if "categories" in content and isinstance(content["categories"], list):
        return _fill({int(c["id"]): str(c["name"]) for c in content["categories"]})
    by_id: dict[int, str] = {}
    for key, value in content.items():
        if isinstance(value, int):
            by_id[value] = str(key)
        else:
            by_id[int(key)] = str(value[1]) if isinstance(value, list) else str(value)
    return _fill(by_id)


def _fill(by_id: dict[int, str]) -> tuple[str, ...]:
    if not by_id:
        return ()
    if min(by_id, default=0) < 0 or max(by_id, default=0) > 100_000:
        raise ValueError(f"class ids from {min(by_id)} to {max(by_id)}")
    by_id.setdefault(0, BACKGROUND)  # ids from 1 are a detector's
    return tuple(by_id.get(i, "N/A") for i in range(max(by_id) + 1))
