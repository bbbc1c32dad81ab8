"""What makes two runs the same run: the fingerprint, and the record of everything a result depends on."""

import hashlib
import json
import platform
import re
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pipeline import __version__
from pipeline.decoding import DECODER
from pipeline.resources import resource
from pipeline.settings import Settings
from pipeline.types import SCHEMA_VERSION, ModelSpec, Source

_LIBRARIES = ("torch", "torchvision", "torchcodec", "pillow", "pyarrow", "numpy", "hydra-core", "safetensors")
_FILTERS = ("classes", "exclude", "min_score", "min_area", "nms_iou", "max_detections", "top_k")


def determinants(settings: Settings, spec: ModelSpec, source: Source) -> dict[str, Any]:
    """Everything that decides what a run's files hold. Not in it: batch and shard size, workers, device, executor."""
    return {
        "schema_version": SCHEMA_VERSION,
        "task": settings.parts["task"] | {"name": settings.task, "presets": None},
        "model": spec.name,
        "model_args": dict(settings.model_args),
        "weights": spec.weights_id,
        "categories": list(spec.categories),
        "preprocessing": spec.preprocessing,
        "filters": {name: getattr(settings, name) for name in _FILTERS},
        "source": source.identity,
        "limit": settings.limit,
        "max_pixels": settings.max_pixels,
        "decoder": DECODER,
        "engine": {k: v for k, v in settings.parts["engine"].items() if k != "device"},
        "sinks": settings.parts["sink"],
    }


def run_name(determined_by: dict[str, Any]) -> str:
    """`<task>-<model>-<fingerprint8>`."""
    canonical = json.dumps(determined_by, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    fingerprint = hashlib.sha256(canonical.encode()).hexdigest()
    model = re.sub(r"[^A-Za-z0-9_.]+", "_", Path(determined_by["model"]).stem)
    return f"{determined_by['task']['name']}-{model}-{fingerprint[:8]}"


def record(
    settings: Settings, spec: ModelSpec, determined_by: dict[str, Any], sha256: str | None, device: str
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
        "config": {k: v for k, v in vars(settings).items() if k != "dry_run"},
        "fingerprint_of": determined_by,
        "device": device,
        "decoder": DECODER,
        "python": platform.python_version(),
        "libraries": {name: version(name) for name in _LIBRARIES},
        "git_revision": _git_revision(),
    }


def _git_revision() -> str | None:
    """The checkout's commit, `-dirty` when files differ from it; None for an installed wheel."""
    root = resource("conf").parent
    if not (root / ".git").exists():
        return None
    try:
        head = _git(root, "rev-parse", "HEAD")
        return head + ("-dirty" if _git(root, "status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True, timeout=10)
    return done.stdout.strip()
