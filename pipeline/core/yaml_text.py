"""Read YAML files in which names are the text as written: `no`, `on`, `007` and `1.10`."""

from collections.abc import Collection
from typing import Any, ClassVar

import yaml


class _TextLoader(yaml.SafeLoader):
    """Reads every plain scalar as a text. YAML's own rules make False of `no` and 7 of `007`."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}


class _ValueLoader(yaml.SafeLoader):
    """Reads values by YAML's rules, and the word `=` as a text instead of refusing it."""


_ValueLoader.add_constructor("tag:yaml.org,2002:value", lambda loader, node: str(node.value))


def load_text(text: str) -> Any:
    """Parse YAML, with texts as the only scalars. Raises YAMLError."""
    return yaml.load(text, Loader=_TextLoader)  # noqa: S506 - derived from SafeLoader


def load_mapping(text: str, texts: Collection[str]) -> dict[str, Any]:
    """Parse a YAML mapping.

    Args:
        text: The file.
        texts: The keys whose values, with all that is inside them, are texts unless they are null.

    Raises:
        YAMLError: It is not YAML.
        ValueError: It is not a mapping.
    """
    content = yaml.load(text, Loader=_ValueLoader)  # noqa: S506 - derived from SafeLoader
    written = load_text(text)
    if not isinstance(content, dict):
        raise ValueError(f"expected a mapping, got {type(content).__name__}")
    kept = {key: written[key] for key in texts if key in written and content[key] is not None}
    return {str(key): value for key, value in content.items()} | kept
