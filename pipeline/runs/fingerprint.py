"""What makes two runs the same run: the fingerprint, and the record of everything a result depends on."""

import json
import logging
import platform
import re
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pipeline import __version__
from pipeline.config.settings import Settings
from pipeline.core.hashing import short_hash
from pipeline.core.locations import without_secrets
from pipeline.core.package_files import resource
from pipeline.core.types import SCHEMA_VERSION, Engine, ModelSpec, Source

log = logging.getLogger(__name__)
_LIBRARIES = ("torch", "torchvision", "torchcodec", "av", "pillow", "pyarrow", "numpy", "hydra-core", "safetensors")
_IF_USED = ("onnxruntime",)  # imported for some models only
_FILTERS = ("classes", "exclude", "min_score", "min_area", "nms_iou", "max_detections", "top_k")


def determinants(settings: Settings, spec: ModelSpec, source: Source, engine: Engine) -> dict[str, Any]:
    """Everything that decides what a run's files hold. Not in it: batch and shard size, workers, device, executor."""
    return (
        {
            "schema_version": SCHEMA_VERSION,
            "task": settings.parts["task"] | {"name": settings.task, "presets": None},
            "model": spec.name,
            "model_args": dict(settings.model_args),
            "weights": spec.weights_id,
            "categories": list(spec.categories),
            "preprocessing": spec.preprocessing,
            "filters": {name: _canonical(getattr(settings, name)) for name in _FILTERS},
            "source": source.identity,
            "limit": settings.limit,
            "max_pixels": settings.max_pixels,
            "decoder": source.decoder,
            "engine": {"_target_": settings.parts["engine"]["_target_"], **engine.identity},
            "sinks": settings.parts["sink"],
        }
        | _source(settings)
        | _views(settings)
        | _network(settings)
        | ({"skip_duplicates": settings.skip_duplicates} if settings.skip_duplicates else {})
    )


def _source(settings: Settings) -> dict[str, Any]:
    """What decides which parts of its files a source lists, such as a frame rate; the input is in its identity."""
    own = {name: value for name, value in settings.parts["source"].items() if name != "_target_" and value != settings.input}
    return {"source_settings": own} if own else {}


def _network(settings: Settings) -> dict[str, Any]:
    """What makes a builder's network another one, where it is said."""
    anchors = {name: value for name, value in settings.anchors.items() if value is not None}
    return ({"backbone": settings.backbone} if settings.backbone else {}) | ({"anchors": anchors} if anchors else {})


def _views(settings: Settings) -> dict[str, Any]:
    """Nothing unless asked for, so that runs begun before there were tiles keep their names."""
    tiled = settings.tiles["size"] is not None
    if not tiled and not settings.flip:
        return {}
    how = {"merge": settings.tiles["merge"], "iou": settings.tiles["iou"], "flip": settings.flip}
    return {"views": how | ({name: settings.tiles[name] for name in ("size", "overlap")} if tiled else {})}


def _canonical(value: Any) -> Any:
    """[dog, Cat] and [cat, dog] ask for the same."""
    return sorted({name.casefold() for name in value}) if isinstance(value, tuple) else value


def run_name(determined_by: dict[str, Any]) -> str:
    """`<task>-<model>-<fingerprint8>`, the name of one folder whatever the two are called: both may be somebody else's."""
    canonical = json.dumps(determined_by, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    model = re.sub(r"[^A-Za-z0-9_.]+", "_", Path(determined_by["model"]).stem)
    task = re.sub(r"[^A-Za-z0-9_.-]+", "_", determined_by["task"]["name"])
    return f"{task}-{model}-{short_hash(canonical)}"


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
        "config": _told({k: v for k, v in vars(settings).items() if k not in ("dry_run", "shard")}),
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
    return without_secrets(value) if isinstance(value, str) else value


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
