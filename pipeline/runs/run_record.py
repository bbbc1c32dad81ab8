"""run.json: the record of everything that the results of a run depend on."""

import json
import logging
import platform
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pipeline import __version__
from pipeline.config.settings import Settings
from pipeline.core.locations import redact_secrets
from pipeline.core.package_files import find_resource
from pipeline.core.types import ModelSpec

log = logging.getLogger(__name__)


_LIBRARIES = (
    "torch",
    "torchvision",
    "torchcodec",
    "av",
    "pillow",
    "pyarrow",
    "numpy",
    "hydra-core",
    "safetensors",
)


_IF_USED = ("onnxruntime",)  # imported for some models only


def make_record(
    settings: Settings,
    spec: ModelSpec,
    determined_by: dict[str, Any],
    sha256: str | None,
    device: str,
) -> dict[str, Any]:
    """The content of run.json. No time and no host, so that the same run leaves the same bytes."""
    return {
        "visionbatch": __version__,
        "task": settings.task,
        "model": spec.name,
        "weights": spec.weights,
        "weights_sha256": sha256,
        "preprocessing": spec.preprocessing,
        "categories": list(spec.categories),
        "config": _told(
            {k: v for k, v in settings.to_plain().items() if k not in ("dry_run", "shard")}
        ),
        "fingerprint_of": determined_by,
        "device": device,
        "decoder": determined_by["decoder"],
        "python": platform.python_version(),
        "libraries": {name: version(name) for name in _LIBRARIES}
        | {name: sys.modules[name].__version__ for name in _IF_USED if name in sys.modules},
        "git_revision": _git_revision(),
    }


def _told(value: Any) -> Any:
    """As it may be written down: an address may hold a signature."""
    if isinstance(value, Mapping):
        return {name: _told(one) for name, one in value.items()}
    return redact_secrets(value) if isinstance(value, str) else value


def merge_record(path: Path, this: dict[str, Any]) -> dict[str, Any]:
    """What run.json is to hold: the record of the session that began the run, and where later ones differed, under
    `resumed_with`. Differing libraries, code or devices are said, because shards of one run then differ in their making."""
    if not path.is_file():
        return this
    first: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    here = json.loads(json.dumps(this))
    keys = ("device", "decoder", "python", "libraries", "git_revision", "config", "weights_sha256")
    differing = {key: here[key] for key in keys if here[key] != first.get(key)}
    told = [key for key in differing if key != "config"]
    if told:
        log.warning("This run was begun with another %s; its run.json lists both.", ", ".join(told))
    if differing and differing not in first.get("resumed_with", []):
        first["resumed_with"] = [*first.get("resumed_with", []), differing]
    return first


def _git_revision() -> str | None:
    """The checkout's commit, `-dirty` when files differ from it; None for an installed wheel."""
    root = find_resource("conf").parent
    if not (root / ".git").exists():
        return None
    try:
        head = _git(root, "rev-parse", "HEAD")
        return head + ("-dirty" if _git(root, "status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=root, capture_output=True, text=True, check=True, timeout=10
    )
    return done.stdout.strip()
