"""Make run.json, which records the settings, weights, versions and device of a run."""

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
from pipeline.core.json_files import Types, check_object, read_json_object
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


_OPTIONAL_LIBRARIES = ("onnxruntime",)  # recorded if the model has imported them


_NUMBER = (int, float, type(None))
_NAMES = (list, type(None))
# What commands that read a finished run need of run.json.
_RECORD_TYPES: Mapping[str, Types] = {
    "task": str,
    "model": str,
    "config": dict,
    "fingerprint_of": dict,
}
_DETERMINANT_TYPES: Mapping[str, Types] = {
    "source": str,
    "model": str,
    "task": dict,
    "filters": dict,
}
# Values that older runs lack.
_LATER_TYPES: Mapping[str, Types] = {"libraries": dict}
_LATER_DETERMINANT_TYPES: Mapping[str, Types] = {
    "source_settings": dict,
    "engine": dict,
    "pixels": dict,
    "max_pixels": int,
}
_FILTER_TYPES: Mapping[str, Types] = {
    "classes": _NAMES,
    "exclude": _NAMES,
    "min_score": (*_NUMBER, dict),
    "min_area": _NUMBER,
    "nms_iou": _NUMBER,
    "max_detections": _NUMBER,
    "top_k": _NUMBER,
}


def read_record(path: Path) -> dict[str, Any]:
    """Read run.json. Raises RunDamaged if it is not what a run writes."""
    record = read_json_object(path, _RECORD_TYPES)
    _check_later(record, _LATER_TYPES, str(path))

    determined_by, where = record["fingerprint_of"], f"{path}, fingerprint_of"
    check_object(determined_by, _DETERMINANT_TYPES, where)
    _check_later(determined_by, _LATER_DETERMINANT_TYPES, where)
    check_object(determined_by["task"], {"name": str}, f"{path}, task")
    _check_filters(determined_by["filters"], f"{path}, filters")
    return record


def _check_filters(filters: Any, where: str) -> None:
    check_object(filters, _FILTER_TYPES, where)
    for key in ("classes", "exclude"):
        for number, name in enumerate(filters[key] or ()):
            check_object({f"{key}[{number}]": name}, {f"{key}[{number}]": str}, where)
    if isinstance(filters["min_score"], dict):
        scores = dict.fromkeys(("default", *filters["min_score"]), (int, float))
        check_object(filters["min_score"], scores, f"{where}, min_score")


def _check_later(content: Mapping[str, Any], types: Mapping[str, Types], where: str) -> None:
    """Check the values that are there."""
    check_object(content, {key: kind for key, kind in types.items() if key in content}, where)


def make_record(
    settings: Settings,
    spec: ModelSpec,
    determined_by: dict[str, Any],
    sha256: str | None,
    device: str,
) -> dict[str, Any]:
    """Return the content of run.json.

    It contains no time and no host, so that equal runs write equal bytes.
    """
    return {
        "visionbatch": __version__,
        "task": settings.task,
        "model": spec.name,
        "weights": spec.weights,
        "weights_sha256": sha256,
        "preprocessing": spec.preprocessing,
        "categories": list(spec.categories),
        "config": _redact(
            {k: v for k, v in settings.to_plain().items() if k not in ("dry_run", "shard")}
        ),
        "fingerprint_of": determined_by,
        "device": device,
        "decoder": determined_by["decoder"],
        "python": platform.python_version(),
        "libraries": {name: version(name) for name in _LIBRARIES}
        | {
            name: sys.modules[name].__version__
            for name in _OPTIONAL_LIBRARIES
            if name in sys.modules
        },
        "git_revision": _read_git_revision(),
    }


def _redact(value: Any) -> Any:
    """Remove secrets from addresses."""
    if isinstance(value, Mapping):
        return {name: _redact(item) for name, item in value.items()}
    return redact_secrets(value) if isinstance(value, str) else value


def merge_record(path: Path, record: dict[str, Any]) -> dict[str, Any]:
    """Return the run's first record, with the differences of later sessions under `resumed_with`.

    Warns if the device, the decoder, the code or the libraries differ, because some shards of the
    run are then computed differently.
    """
    if not path.is_file():
        return record
    first = read_json_object(path, {})
    _check_later(first, {"resumed_with": list}, str(path))
    current = json.loads(json.dumps(record))
    keys = ("device", "decoder", "python", "libraries", "git_revision", "config", "weights_sha256")
    differing = {key: current[key] for key in keys if current[key] != first.get(key)}
    warned = [key for key in differing if key != "config"]
    if warned:
        log.warning(
            "This run was begun with another %s; its run.json lists both.", ", ".join(warned)
        )
    if differing and differing not in first.get("resumed_with", []):
        first["resumed_with"] = [*first.get("resumed_with", []), differing]
    return first


def _read_git_revision() -> str | None:
    """Return the commit of the checkout, with `-dirty` if files differ from it.

    An installed wheel has no commit: None.
    """
    root = find_resource("conf").parent
    if not (root / ".git").exists():
        return None
    try:
        head = _run_git(root, "rev-parse", "HEAD")
        return head + ("-dirty" if _run_git(root, "status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _run_git(root: Path, *arguments: str) -> str:
    finished = subprocess.run(
        ["git", *arguments], cwd=root, capture_output=True, text=True, check=True, timeout=10
    )
    return finished.stdout.strip()
