"""The fingerprint of everything that determines a run's rows, and the name of the run folder.

The fingerprint covers the names of components and their settings but never the Python path of a
class, so that moving a class renames no run. Settings that change no row are not part of it: batch
size, shard size, workers, device, executor, pictures.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.config.groups.images import DEFAULT_MAX_ASPECT
from pipeline.config.instantiate import instantiate
from pipeline.config.settings import Settings
from pipeline.core.hashing import hash_text
from pipeline.core.name_matching import fold_text
from pipeline.core.output_protocols import PictureSink
from pipeline.core.protocols import Engine, Source
from pipeline.core.schema import SCHEMA_VERSION
from pipeline.core.types import ModelSpec
from pipeline.ops.filters import list_twins, record_class_names

# Defaults of settings that are younger than the first runs, whose fingerprints stay.
_LATER_DEFAULTS = (("pages", "first"),)
_FILTERS = ("classes", "exclude", "min_score", "min_area", "nms_iou", "max_detections", "top_k")


def collect_determinants(
    settings: Settings, spec: ModelSpec, source: Source, engine: Engine
) -> dict[str, Any]:
    """Return everything that determines a run's rows, in JSON types."""
    components = settings.components
    filters = {name: getattr(settings, name) for name in _FILTERS}
    return {
        "schema_version": SCHEMA_VERSION,
        "task": {"name": settings.task, **_select_settings(components["task"])},
        "model": spec.name,
        "model_args": dict(settings.model_args),
        "weights": spec.weights_id,
        "categories": list(spec.categories),
        "preprocessing": spec.preprocessing,
        "filters": normalize_filters(filters, spec.categories),
        "source": source.identity,
        "limit": settings.limit,
        "max_pixels": settings.max_pixels,
        "decoder": source.decoder,
        "engine": {"name": _get_component_name(components["engine"]), **engine.identity},
        "sinks": _describe_sinks(settings),
        **_describe_source(settings),
        **_describe_views(settings),
        **_describe_network(settings),
        **_describe_duplicates(settings),
        **_describe_limits(settings),
        **describe_exact_names(filters, spec.categories),
        **_describe_pixels(settings),
    }


def make_run_name(determined_by: Mapping[str, Any]) -> str:
    """Return `<task>-<model>-<fingerprint>`.

    Characters of the task and the model that folder names do not allow are replaced.
    """
    canonical = json.dumps(determined_by, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    model = re.sub(r"[^A-Za-z0-9_.]+", "_", Path(determined_by["model"]).stem)
    task = re.sub(r"[^A-Za-z0-9_.-]+", "_", determined_by["task"]["name"])
    return f"{task}-{model}-{hash_text(canonical)}"


def _get_component_name(node: Mapping[str, Any]) -> str:
    """Return a component's name, which is that of its code file and its configuration file."""
    return str(node["_target_"]).split(".")[-2]


def _select_settings(node: Mapping[str, Any]) -> dict[str, Any]:
    """Return a component's own settings."""
    return {key: value for key, value in node.items() if key not in ("_target_", "presets")}


def _describe_sinks(settings: Settings) -> dict[str, Any]:
    """Return the settings of the sinks that write rows. A sink of pictures determines no row."""
    return {
        name: _select_settings(node)
        for name, node in settings.components["sink"].items()
        if not isinstance(instantiate(node), PictureSink)
    }


def _describe_source(settings: Settings) -> dict[str, Any]:
    """Return the settings that select parts of the source's files, such as a frame rate.

    The input is left out because the source's identity has it.
    """
    own = _select_settings(settings.components["source"])
    own = {
        name: value
        for name, value in own.items()
        if value != settings.input and (name, value) not in _LATER_DEFAULTS
    }
    return {"source_settings": own} if own else {}


def _describe_views(settings: Settings) -> dict[str, Any]:
    """Return the settings of tiles and mirror images, if either is used."""
    tiles = settings.tiles
    if tiles.size is None and not settings.flip:
        return {}
    views: dict[str, Any] = {"merge": tiles.merge, "iou": tiles.iou, "flip": settings.flip}
    if tiles.size is not None:
        views |= {"size": tiles.size, "overlap": tiles.overlap}
    return {"views": views}


def _describe_network(settings: Settings) -> dict[str, Any]:
    """Return the settings that change a builder's network, if any is set."""
    anchors = {name: value for name, value in vars(settings.anchors).items() if value is not None}
    return ({"backbone": settings.backbone} if settings.backbone else {}) | (
        {"anchors": anchors} if anchors else {}
    )


def _describe_duplicates(settings: Settings) -> dict[str, Any]:
    return {"skip_duplicates": settings.skip_duplicates} if settings.skip_duplicates else {}


def _describe_limits(settings: Settings) -> dict[str, Any]:
    """Return the limits that refuse images, if they are not the defaults.

    Without `memory=` no image is refused for its memory, so that rows do not depend on the machine.
    """
    aspect = (
        {} if settings.max_aspect == DEFAULT_MAX_ASPECT else {"max_aspect": settings.max_aspect}
    )
    return aspect | ({} if settings.memory is None else {"memory": settings.memory})


def normalize_filters(filters: Mapping[str, Any], categories: Sequence[str]) -> dict[str, Any]:
    """Return the filters in JSON types, with class names as `record_class_names` writes them."""
    names = {
        key: record_class_names(filters[key], categories, key) for key in ("classes", "exclude")
    }
    return {**filters, **names}


def describe_exact_names(filters: Mapping[str, Any], categories: Sequence[str]) -> dict[str, Any]:
    """Return whether the filters name a class whose name differs from another one only in case.

    Versions that ignored the case filtered both classes, so such runs need another fingerprint.
    """
    scores = filters["min_score"] if isinstance(filters["min_score"], Mapping) else {}
    given = {*(filters["classes"] or ()), *(filters["exclude"] or ()), *scores} - {"default"}
    folded = {fold_text(name) for name in list_twins(categories)}
    return {"exact_names": True} if folded & set(map(fold_text, given)) else {}


def _describe_pixels(settings: Settings) -> dict[str, Any]:
    """Return the settings of brightness and channels that are not the defaults."""
    levels = {} if settings.levels == "full" else {"levels": _to_json(settings.levels)}
    bands = {"bands": list(settings.bands)} if settings.bands else {}
    return {"pixels": levels | bands} if levels or bands else {}


def _to_json(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
