"""What makes two runs the same run: the fingerprint, and the record of everything a result depends on."""

import json
import logging
import re
from pathlib import Path
from typing import Any

from pipeline.config.settings import Settings
from pipeline.core.hashing import hash_text
from pipeline.core.protocols import Engine, Source
from pipeline.core.schema import SCHEMA_VERSION
from pipeline.core.types import ModelSpec

log = logging.getLogger(__name__)
_FILTERS = ("classes", "exclude", "min_score", "min_area", "nms_iou", "max_detections", "top_k")


def collect_determinants(
    settings: Settings, spec: ModelSpec, source: Source, engine: Engine
) -> dict[str, Any]:
    """Everything that decides what a run's files hold. Not in it: batch and shard size, workers, device, executor."""
    return (
        {
            "schema_version": SCHEMA_VERSION,
            "task": settings.components["task"] | {"name": settings.task, "presets": None},
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
            "engine": {"_target_": settings.components["engine"]["_target_"], **engine.identity},
            "sinks": settings.components["sink"],
        }
        | _source(settings)
        | _views(settings)
        | _network(settings)
        | ({"skip_duplicates": settings.skip_duplicates} if settings.skip_duplicates else {})
    )


def _source(settings: Settings) -> dict[str, Any]:
    """What decides which parts of its files a source lists, such as a frame rate; the input is in its identity."""
    own = {
        name: value
        for name, value in settings.components["source"].items()
        if name != "_target_" and value != settings.input
    }
    return {"source_settings": own} if own else {}


def _network(settings: Settings) -> dict[str, Any]:
    """What makes a builder's network another one, where it is said."""
    anchors = {name: value for name, value in vars(settings.anchors).items() if value is not None}
    return ({"backbone": settings.backbone} if settings.backbone else {}) | (
        {"anchors": anchors} if anchors else {}
    )


def _views(settings: Settings) -> dict[str, Any]:
    """Nothing unless asked for, so that runs begun before there were tiles keep their names."""
    tiled = settings.tiles.size is not None
    if not tiled and not settings.flip:
        return {}
    how = {"merge": settings.tiles.merge, "iou": settings.tiles.iou, "flip": settings.flip}
    return {
        "views": how
        | ({"size": settings.tiles.size, "overlap": settings.tiles.overlap} if tiled else {})
    }


def _canonical(value: Any) -> Any:
    """[dog, Cat] and [cat, dog] ask for the same."""
    return sorted({name.casefold() for name in value}) if isinstance(value, tuple) else value


def make_run_name(determined_by: dict[str, Any]) -> str:
    """`<task>-<model>-<fingerprint8>`, the name of one folder whatever the two are called: both may be somebody else's."""
    canonical = json.dumps(determined_by, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    model = re.sub(r"[^A-Za-z0-9_.]+", "_", Path(determined_by["model"]).stem)
    task = re.sub(r"[^A-Za-z0-9_.-]+", "_", determined_by["task"]["name"])
    return f"{task}-{model}-{hash_text(canonical)}"
