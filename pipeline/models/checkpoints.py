"""The .safetensors file that training leaves: weights, and in its metadata everything that is needed to run them."""

import json
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from safetensors.torch import save
from torch import Tensor, nn

from pipeline.core.errors import ConfigError, suggest_nearest
from pipeline.models.anchors import Anchors
from pipeline.models.registry import list_builder_names
from pipeline.models.weights import parse_categories, read_safetensors_metadata
from pipeline.storage.publish import publish_file


@dataclass(frozen=True)
class CheckpointMetadata:
    """What a file says of its weights. The metadata's texts; lists and mappings as JSON. `anchors` are those that were set,
    and not the builder's own."""

    architecture: str  # a torchvision builder, or `fasterrcnn` with a `backbone`
    categories: tuple[str, ...]  # index = class id; of detectors and segmenters 0 is the background
    task: str | None = None  # None: the file does not say
    backbone: str | None = None
    anchors: Anchors = field(default_factory=Anchors)
    model_args: Mapping[str, Any] = field(default_factory=dict)
    keypoint_names: tuple[str, ...] = ()
    preprocess: str = "DEFAULT"  # the torchvision weights with whose preprocessing it was trained
    channels: str = "rgb"
    metrics: Mapping[str, Any] = field(default_factory=dict)  # what was measured of it
    trained: Mapping[str, Any] = field(default_factory=dict)  # how it was trained, for people

    def to_text_metadata(self) -> dict[str, str]:
        """As a .safetensors file keeps it: names with texts. `read_trained` is the inverse."""
        plain = vars(self) | {"anchors": self.anchors.to_dict()}
        texts = {name: plain[name] for name in _TEXTS if plain[name] is not None}
        lists = {
            name: json.dumps(list(plain[name]))
            for name in _LISTS
            if plain[name] or name == "categories"
        }
        mappings = {
            name: json.dumps(_finite(plain[name]), sort_keys=True)
            for name in _MAPPINGS
            if plain[name]
        }
        return texts | lists | mappings


@runtime_checkable
class TrainableFormat(Protocol):
    """A model's format that can be trained: `format.builder.Builder`."""

    transform: Callable[[Tensor], Tensor]  # the preprocessing of the weights
    weights_id: str

    def build_for_training(self, num_classes: int, num_keypoints: int | None = None) -> nn.Module:
        """An untrained network for so many classes, a detector's and a segmenter's background included."""
        ...

    def load_pretrained_state(self) -> Mapping[str, Tensor] | None:
        """The tensors that training begins with, or None for random ones."""
        ...

    def read_class_names(self) -> Sequence[str] | None:
        """Of the weights that training begins with; None where they do not tell."""
        ...

    def find_class_tensors(self, num_classes: int) -> Collection[str]:
        """The tensors of `fresh` whose shapes follow the number of classes."""
        ...

    def build_metadata(
        self,
        categories: Sequence[str],
        keypoint_names: Sequence[str] = (),
        metrics: Mapping[str, Any] | None = None,
        facts: Mapping[str, Any] | None = None,
    ) -> CheckpointMetadata:
        """What a file says that holds the weights of a network that `fresh` made."""
        ...


_TEXTS = ("architecture", "task", "backbone", "preprocess", "channels")
_LISTS = ("categories", "keypoint_names")
_MAPPINGS = ("anchors", "model_args", "metrics", "trained")


def serialize_checkpoint(state: Mapping[str, Tensor], trained: CheckpointMetadata) -> bytes:
    """The file's content: tensors in float32 on the CPU, names that share memory each with a copy of its own. The same
    weights and facts give the same bytes, whatever `state` calls first."""
    tensors = {
        name: (one.detach().float() if one.is_floating_point() else one.detach())
        .cpu()
        .clone()
        .contiguous()
        for name, one in sorted(state.items())
    }
    return _in_order(save(tensors, metadata=trained.to_text_metadata()))


def _in_order(content: bytes) -> bytes:
    """safetensors writes the metadata in an order of chance. A file: the header's length, the header, the tensors."""
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the tensors stay aligned
    return len(text).to_bytes(8, "little") + text + content[end:]


def save_checkpoint(path: Path, state: Mapping[str, Tensor], trained: CheckpointMetadata) -> None:
    """Write the file whole or not at all; one that was there is replaced."""
    content = serialize_checkpoint(state, trained)
    with publish_file(path, replace=True) as made:
        made.write_bytes(content)


def has_known_architecture(path: Path) -> bool:
    """Whether `read_trained` has something to read: the architecture is one that can be built here."""
    return read_safetensors_metadata(path).get("architecture") in list_builder_names()


def read_checkpoint_metadata(path: Path) -> CheckpointMetadata:
    """Raises ConfigError for a file that does not say what it is, or says it of something that cannot be built. All of it is
    data; names are looked up in torchvision's list of builders."""
    metadata = read_safetensors_metadata(path)
    architecture = metadata.get("architecture")
    if architecture is None:
        raise ConfigError(
            f"{path} does not say what its architecture is; only files that `train` left do. "
            "Name it: model=ARCHITECTURE weights=FILE, and categories=FILE where it carries no class names."
        )
    known = set(list_builder_names())
    if architecture not in known:
        raise ConfigError(
            f"{path}: its metadata has architecture={architecture[:80]!r}, and torchvision has no builder of this name."
            + suggest_nearest(architecture, known)
        )
    categories = parse_categories(metadata)
    if categories is None:
        raise ConfigError(
            f"{path}: its metadata has no categories. Expected a JSON list of class names."
        )
    try:
        lists = {name: _names(metadata[name]) for name in ("keypoint_names",) if name in metadata}
        mappings: dict[str, Any] = {
            name: _mapping(metadata[name]) for name in _MAPPINGS if name in metadata
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


def load_matching_tensors(network: nn.Module, state: Mapping[str, Tensor]) -> list[str]:
    """Load every tensor that has the network's name and shape, in the namings too that torchvision's modules know from older
    files. Returns the names of the parameters that stay new, such as those of a head for other classes. Raises ConfigError
    where nothing fits."""
    own = network.state_dict()
    fitting = type(own)(
        (name, one)
        for name, one in state.items()
        if name not in own or own[name].shape == one.shape
    )
    # modules ask which of their versions wrote it; a .safetensors file does not tell
    fitting._metadata = getattr(state, "_metadata", None) or {"": {"version": network._version}}  # type: ignore[attr-defined]
    parameters = [name for name, _ in network.named_parameters()]
    try:
        missing = set(network.load_state_dict(fitting, strict=False).missing_keys)
    except RuntimeError as error:
        raise ConfigError(
            f"These weights do not fit {type(network).__name__}: {str(error).splitlines()[-1].strip()}"
        ) from None
    new = [name for name in parameters if name in missing]
    if parameters and len(new) == len(parameters):
        raise ConfigError(
            f"None of these weights fit {type(network).__name__}: they have {next(iter(state), 'nothing')!r}, the network "
            f"has {parameters[0]!r}. Choose the model that they are of."
        )
    return new


def _names(text: str) -> tuple[str, ...]:
    names = json.loads(text)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{text[:80]!r} is not a JSON list of names")
    return tuple(names)


def _mapping(text: str) -> dict[str, Any]:
    found = json.loads(text)
    if not isinstance(found, dict):
        raise ValueError(f"{text[:80]!r} is not a JSON mapping")
    return found


def _finite(value: Any) -> Any:
    """JSON has no nan: null, as other programs read it."""
    if isinstance(value, Mapping):
        return {str(name): _finite(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
