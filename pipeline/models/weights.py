"""Weight files: find, download, check and read them, without running code from them."""

import json
import re
import urllib.error
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor
from torchvision.models import WeightsEnum

from pipeline.core.errors import ConfigError, PipelineError, is_disk_full
from pipeline.core.hashing import hash_file
from pipeline.core.locations import expand_home

WEIGHTS_FILES = (".safetensors", ".pth", ".pt")
_HASH_IN_NAME = re.compile(r"-([0-9a-f]{8,})\.")  # resnet50-11ad3fa6.pth


def is_weights_file(given: str) -> bool:
    """Return whether the value of `model` or `weights` names a file, judged by its ending."""
    return Path(given).suffix.casefold() in WEIGHTS_FILES


def resolve_file(given: str, suffixes: tuple[str, ...], key: str = "weights") -> Path:
    """Return the path of the file that a setting names.

    Args:
        given: The setting's value.
        suffixes: Endings that are allowed, in lower case.
        key: The setting's name, for messages.

    Raises:
        ConfigError: There is no such file, or it has another ending.
    """
    path = expand_home(given)
    endings = " or ".join(suffixes)
    if not path.is_file():
        raise ConfigError(
            f"{key}={given}: there is no such file. Expected a file ending in {endings}."
        )
    if path.suffix.casefold() not in suffixes:
        raise ConfigError(f"{key}={given}: expected a file ending in {endings}, got {path.name!r}.")
    return path


def get_cache_path(member: WeightsEnum) -> Path:
    """Return where torch keeps the file of published weights on this machine."""
    return Path(torch.hub.get_dir()) / "checkpoints" / Path(member.url).name


def fetch_official_file(member: WeightsEnum) -> Path:
    """Return the file of published weights in torch's cache; download it if it is missing.

    torch.hub downloads under a temporary name, compares the SHA-256 prefix in the file's name and
    renames the file. A cached file is checked here again, because torch would load a damaged one.

    Raises:
        PipelineError: The file cannot be downloaded, or is damaged.
    """
    path = get_cache_path(member)
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        prefix = _HASH_IN_NAME.search(path.name)
        try:
            torch.hub.download_url_to_file(member.url, str(path), prefix[1] if prefix else None)
        except (urllib.error.URLError, OSError, RuntimeError) as error:
            if isinstance(error, OSError) and is_disk_full(error):
                raise
            raise PipelineError(
                f"The weights {member} are not on this machine and could not be downloaded "
                f"({error}).\n"
                f"  file:  {path.name}\n  from:  {member.url}\n  to:    {path}\n"
                "Put it there and run the same command again, or name another file: weights=FILE."
            ) from None
    _check_hash(path)
    return path


def _check_hash(path: Path) -> None:
    """Compare the file with the SHA-256 prefix in its name."""
    prefix = _HASH_IN_NAME.search(path.name)
    if prefix and not hash_file(path).startswith(prefix[1]):
        raise PipelineError(
            f"{path} is damaged: its SHA-256 does not begin with {prefix[1]}. "
            "Delete it and run again."
        )


def read_safetensors_metadata(path: Path) -> dict[str, str]:
    """Read the text metadata of a .safetensors file; files of other formats have none.

    Raises:
        ConfigError: The file is not a safetensors file.
    """
    if path.suffix.casefold() != ".safetensors":
        return {}
    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}
    except SafetensorError as error:
        raise ConfigError(f"{path} is not a safetensors file: {error}.") from None


def parse_categories(metadata: dict[str, str]) -> tuple[str, ...] | None:
    """Parse the class names in a file's metadata, a JSON list under `categories`.

    Returns:
        The names; the index is the class id. None where the metadata has no `categories`.

    Raises:
        ConfigError: `categories` is anything else.
    """
    if "categories" not in metadata:
        return None
    try:
        names = json.loads(metadata["categories"])
    except ValueError:
        names = None
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise ConfigError(
            f"The file's metadata has categories={metadata['categories'][:80]!r}: expected a JSON "
            'list of names, such as ["cat", "dog"]. Save it so, or say categories=FILE.'
        )
    return tuple(names)


def read_state_dict(path: Path) -> OrderedDict[str, Tensor]:
    """Read a `state_dict` from .safetensors, or from a pickle that holds tensors only.

    Code in the file is never run. The usual wrappers of a training checkpoint are removed:
    `{"model": ...}`, `{"state_dict": ...}`, and the prefix `module.`.

    Returns:
        Tensors by name, in float32.

    Raises:
        ConfigError: The file holds anything else.
    """
    state = _load_tensors(path)
    for wrapper in ("model", "state_dict", "model_state_dict"):
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]

    is_state = isinstance(state, dict) and all(isinstance(v, Tensor) for v in state.values())
    if not is_state or not state:
        raise ConfigError(
            f"{path} holds no state_dict: expected names with tensors, got {type(state).__name__}."
        )

    tensors = OrderedDict(
        (name.removeprefix("module."), v.float() if v.is_floating_point() else v)
        for name, v in state.items()
    )
    # torch keeps the versions of the network's modules here; some modules need them to load.
    tensors._metadata = getattr(state, "_metadata", None)  # type: ignore[attr-defined]
    return tensors


def _load_tensors(path: Path) -> Any:
    try:
        if path.suffix.casefold() == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # noqa: BLE001 - damaged files raise errors of many classes
        raise ConfigError(
            f"{path} is not a file of plain tensors, and nothing else in it is loaded "
            f"({type(error).__name__}). Save the model's state_dict() alone, best as .safetensors."
        ) from None
