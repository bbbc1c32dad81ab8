"""The .safetensors file that training leaves: weights, and all that is needed to run them."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import Tensor

from pipeline.core.errors import ConfigError, suggest_nearest
from pipeline.models.anchors import Anchors
from pipeline.models.torchvision_builders import list_builder_names
from pipeline.models.weights import parse_categories, read_safetensors_metadata
from pipeline.storage.publish import publish_file

_TEXTS = ("architecture", "task", "backbone", "preprocess", "channels")
_LISTS = ("categories", "keypoint_names")  # JSON lists of names
_MAPPINGS = ("anchors", "model_args", "metrics", "trained")  # JSON objects


@dataclass(frozen=True)
class CheckpointMetadata:
    """Metadata of a file with weights. The fields are the keys of the file's metadata."""

    architecture: str  # a torchvision builder, or `fasterrcnn` with a `backbone`
    categories: tuple[
        str, ...
    ]  # index = class id; detectors and segmenters have the background as 0
    task: str | None = None  # None: the file does not say
    backbone: str | None = None
    anchors: Anchors = field(default_factory=Anchors)  # where they differ from the builder's
    model_args: Mapping[str, Any] = field(default_factory=dict)
    keypoint_names: tuple[str, ...] = ()
    preprocess: str = "DEFAULT"  # the torchvision weights whose preprocessing was used in training
    channels: str = "rgb"
    metrics: Mapping[str, Any] = field(default_factory=dict)  # what was measured
    trained: Mapping[str, Any] = field(default_factory=dict)  # how it was trained, for people

    def to_text_metadata(self) -> dict[str, str]:
        """Return the metadata of a .safetensors file; `read_checkpoint_metadata` is the inverse."""
        values = vars(self) | {"anchors": self.anchors.to_dict()}
        texts = {name: values[name] for name in _TEXTS if values[name] is not None}
        lists = {
            name: json.dumps(list(values[name]))
            for name in _LISTS
            if values[name] or name == "categories"
        }
        mappings = {
            name: json.dumps(_replace_nonfinite(values[name]), sort_keys=True)
            for name in _MAPPINGS
            if values[name]
        }
        return texts | lists | mappings


def save_checkpoint(path: Path, state: Mapping[str, Tensor], metadata: CheckpointMetadata) -> None:
    """Write the file atomically; an existing file is replaced."""
    content = serialize_checkpoint(state, metadata)
    with publish_file(path, replace=True) as stage:
        stage.write_bytes(content)


def serialize_checkpoint(state: Mapping[str, Tensor], metadata: CheckpointMetadata) -> bytes:
    """Return the file's content, with tensors in float32.

    Tensors that share memory are copied. The same weights and metadata give the same bytes,
    whatever the order of `state`.
    """
    tensors = {
        name: (tensor.detach().float() if tensor.is_floating_point() else tensor.detach())
        .cpu()
        .clone()
        .contiguous()
        for name, tensor in sorted(state.items())
    }
    return _sort_metadata(save(tensors, metadata=metadata.to_text_metadata()))


def has_known_architecture(path: Path) -> bool:
    """Return whether the file names an architecture that can be built here."""
    return read_safetensors_metadata(path).get("architecture") in list_builder_names()


def read_checkpoint_metadata(path: Path) -> CheckpointMetadata:
    """Read the metadata of a file with weights.

    The metadata is only data; nothing in it is imported or run.

    Raises:
        ConfigError: The file does not name its architecture, or the metadata cannot be used.
    """
    metadata = read_safetensors_metadata(path)
    _check_architecture(path, metadata.get("architecture"))
    categories = parse_categories(metadata)
    if categories is None:
        raise ConfigError(
            f"{path}: its metadata has no categories. Expected a JSON list of class names."
        )

    try:
        lists = {
            name: _parse_names(metadata[name]) for name in ("keypoint_names",) if name in metadata
        }
        mappings: dict[str, Any] = {
            name: _parse_mapping(metadata[name]) for name in _MAPPINGS if name in metadata
        }
        mappings["anchors"] = Anchors.from_mapping(mappings.get("anchors", {}))
    except (ValueError, TypeError, RecursionError) as error:
        raise ConfigError(f"{path}: its metadata cannot be used ({error}).") from None

    channels = metadata.get("channels", "rgb")
    if channels not in ("rgb", "bgr"):
        raise ConfigError(
            f"{path}: its metadata has channels={channels[:80]!r}; expected rgb or bgr."
        )
    texts = {name: metadata[name] for name in _TEXTS if name in metadata}
    return CheckpointMetadata(**(texts | {"categories": categories} | lists | mappings))


def _check_architecture(path: Path, architecture: str | None) -> None:
    if architecture is None:
        raise ConfigError(
            f"{path} does not say what its architecture is; only files that `train` left do. "
            "Name it: model=ARCHITECTURE weights=FILE, and categories=FILE where it carries no "
            "class names."
        )
    known = set(list_builder_names())
    if architecture not in known:
        raise ConfigError(
            f"{path}: its metadata has architecture={architecture[:80]!r}, and torchvision has no "
            f"builder of this name.{suggest_nearest(architecture, known)}"
        )


def _parse_names(text: str) -> tuple[str, ...]:
    names = json.loads(text)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{text[:80]!r} is not a JSON list of names")
    return tuple(names)


def _parse_mapping(text: str) -> dict[str, Any]:
    mapping = json.loads(text)
    if not isinstance(mapping, dict):
        raise ValueError(f"{text[:80]!r} is not a JSON mapping")
    return mapping


def _replace_nonfinite(value: Any) -> Any:
    """Replace NaN and infinity by None, because JSON cannot hold them."""
    if isinstance(value, Mapping):
        return {str(name): _replace_nonfinite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_replace_nonfinite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _sort_metadata(content: bytes) -> bytes:
    """Sort the metadata in a file's header, which safetensors writes in random order.

    A file is the header's length (8 bytes), the header (JSON), and the tensors.
    """
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # keeps the tensors aligned
    return len(text).to_bytes(8, "little") + text + content[end:]
