"""Weight files: found, downloaded and checked, hashed, and read without ever running what is in them."""

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

WEIGHTS_FILES = (".safetensors", ".pth", ".pt")
_HASH_IN_NAME = re.compile(r"-([0-9a-f]{8,})\.")


def resolve_file(given: str, suffixes: tuple[str, ...], key: str = "weights") -> Path:
    """The file that `weights=` or another `key` names. Raises ConfigError when it is absent or of another kind."""
    path = Path(given).expanduser()
    if not path.is_file():
        raise ConfigError(
            f"{key}={given}: there is no such file. Expected a file ending in {' or '.join(suffixes)}."
        )
    if path.suffix.casefold() not in suffixes:
        raise ConfigError(
            f"{key}={given}: expected a file ending in {' or '.join(suffixes)}, got {path.name!r}."
        )
    return path


def fetch_official_file(member: WeightsEnum) -> Path:
    """The file of a torchvision weights member in torch's cache, downloaded first when it is not there.

    torch.hub downloads under a temporary name, compares the SHA-256 prefix that the file's name carries, and renames.
    A cached file is compared here again: torch would load a damaged one.
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
                f"The weights {member} are not on this machine and could not be downloaded ({error}).\n"
                f"  file:  {path.name}\n  from:  {member.url}\n  to:    {path}\n"
                "Put it there and run the same command again, or name another file: weights=FILE."
            ) from None
    _check_name(path)
    return path


def get_cache_path(member: WeightsEnum) -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints" / Path(member.url).name


def _check_name(path: Path) -> None:
    prefix = _HASH_IN_NAME.search(path.name)
    if prefix and not hash_file(path).startswith(prefix[1]):
        raise PipelineError(
            f"{path} is damaged: its SHA-256 does not begin with {prefix[1]}. Delete it and run again."
        )


def read_safetensors_metadata(path: Path) -> dict[str, str]:
    """The text metadata of a .safetensors file; empty for every other format, which has none."""
    if path.suffix.casefold() != ".safetensors":
        return {}
    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}
    except SafetensorError as error:
        raise ConfigError(f"{path} is not a safetensors file: {error}.") from None


def parse_categories(metadata: dict[str, str]) -> tuple[str, ...] | None:
    """The class names in a file's metadata (a JSON list under `categories`), or None."""
    if "categories" not in metadata:
        return None
    try:
        names = json.loads(metadata["categories"])
    except ValueError:
        names = None
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise ConfigError(
            f"The file's metadata has categories={metadata['categories'][:80]!r}: expected a JSON list of names, such as "
            '["cat", "dog"]. Save it so, or say categories=FILE.'
        )
    return tuple(names)


def read_state_dict(path: Path) -> OrderedDict[str, Tensor]:
    """A `state_dict` in float32 from .safetensors or from a pickle of tensors only; never runs code from the file.

    The usual wrappings of a training checkpoint ({"model": ...}, {"state_dict": ...}, a `module.` prefix) are undone.
    """
    safetensors = path.suffix.casefold() == ".safetensors"
    try:
        state: Any = (
            load_file(path)
            if safetensors
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    except OSError:
        raise
    except Exception as error:  # noqa: BLE001 - damaged bytes raise anything: UnpicklingError, KeyError ...
        raise ConfigError(
            f"{path} is not a file of plain tensors, and nothing else in it is loaded ({type(error).__name__}). "
            "Save the model's state_dict() alone, best as .safetensors."
        ) from None
    for wrapping in ("model", "state_dict", "model_state_dict"):
        if isinstance(state, dict) and isinstance(state.get(wrapping), dict):
            state = state[wrapping]
    if (
        not isinstance(state, dict)
        or not state
        or not all(isinstance(v, Tensor) for v in state.values())
    ):
        raise ConfigError(
            f"{path} holds no state_dict: expected names with tensors, got {type(state).__name__}."
        )
    plain = OrderedDict(
        (k.removeprefix("module."), v.float() if v.is_floating_point() else v)
        for k, v in state.items()
    )
    plain._metadata = getattr(state, "_metadata", None)  # type: ignore[attr-defined]  # torch's versions of its modules
    return plain
