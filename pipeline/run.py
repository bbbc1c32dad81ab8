"""READ THIS FIRST: a run from settings to committed files.

settings -> model (names only) -> source -> run folder -> plan -> model (weights) -> shards -> summary
"""

import logging
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from pipeline.commit import RunFolder, point_latest
from pipeline.errors import ConfigError
from pipeline.filters import Filters, score_thresholds
from pipeline.identity import determinants, merge_record, record, run_name
from pipeline.loading import Loader
from pipeline.models import model_format
from pipeline.parts import build
from pipeline.plan import Plan, freeze, load_plan, nothing_found
from pipeline.progress import Progress
from pipeline.settings import Settings
from pipeline.shard import ShardRunner
from pipeline.summary import plan_text, summary_text
from pipeline.table import BOX, with_columns
from pipeline.types import Engine, Format, ModelSpec, Sink, Source, Task
from pipeline.views import Views

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Parts:
    """What the settings ask for, built and checked, before a weight is loaded or an image opened."""

    source: Source
    format: Format
    spec: ModelSpec
    task: Task
    filters: Filters
    views: Views
    engine: Engine
    sinks: Sequence[Sink]


def run(settings: Settings) -> str:
    """Annotate, or resume, or find it complete. Returns the text for the user."""
    parts = assemble(settings)
    with closing(parts.source):
        return annotate(settings, parts)


def annotate(settings: Settings, parts: Parts) -> str:
    """The run folder, the plan, and the shards that are not complete yet."""
    determined_by = determinants(settings, parts.spec, parts.source)
    folder = RunFolder(Path(settings.output).expanduser() / run_name(determined_by))
    if settings.dry_run:
        return plan_text(settings, parts.spec, parts.filters, parts.source, load_plan(folder), folder)
    if not folder.path.is_dir() and next(parts.source.entries(), None) is None:
        raise ConfigError(nothing_found(parts.source))
    with folder.locked():
        plan = freeze(folder, parts.source, settings.shard_size, settings.limit, settings.changed == "accept")
        todo = remaining(plan, folder)
        runner = prepare(settings, parts, determined_by, plan, folder) if todo else None
        point_latest(folder.path)
        start = perf_counter()
        if runner:
            with runner.progress:
                build(settings.parts["executor"]).run(todo, runner.run)
        seconds = perf_counter() - start
    return summary_text(plan, folder, runner, seconds)


def assemble(settings: Settings) -> Parts:
    """Build and check everything cheap. Raises ConfigError."""
    if settings.input is None:
        raise ConfigError(f"task={settings.task} has no samples to run on: say input=FOLDER.")
    if "parquet" not in settings.parts["sink"]:
        raise ConfigError("sink=[...] must name parquet: without its tables a run leaves no result.")
    source = build(settings.parts["source"])
    model = model_format(settings)
    spec = model.describe()
    if settings.task not in spec.tasks:
        raise ConfigError(f"model={spec.name} does {', '.join(sorted(spec.tasks))}, not task={settings.task}.")
    task = build(settings.parts["task"], spec=spec)
    check_clips(settings, task, source, spec)
    with_columns(task.schema, source.columns)  # refuses names that are taken
    filters = build_filters(settings, task, spec.categories)
    sinks = [build(node) for node in settings.parts["sink"].values() if node.get("enabled", True)]
    views = build_views(settings, task, spec)
    return Parts(source, model, spec, task, filters, views, build(settings.parts["engine"]), sinks)


def check_clips(settings: Settings, task: Task, source: Source, spec: ModelSpec) -> None:
    """Raise ConfigError where the source's inputs are not what the task takes."""
    if task.takes_clips and source.clip_length is None:
        raise ConfigError(f"task={settings.task} takes clips of videos: say source=clips, or leave source= out.")
    if source.clip_length is not None and not task.takes_clips:
        raise ConfigError(f"source=clips is for task=video. For task={settings.task} on frames of videos say source=video.")
    if source.clip_length is not None and source.clip_length not in spec.clip_lengths:
        lengths = spec.clip_lengths
        expected = f"{'at least ' if len(lengths) > 1 else ''}{lengths.start}"
        raise ConfigError(f"source.length={source.clip_length}: model={spec.name} takes clips of {expected} frames.")


def build_filters(settings: Settings, task: Task, categories: Sequence[str]) -> Filters:
    """The filter that the settings ask for. Raises ConfigError for one that means nothing to the task."""
    for name in ("min_area", "nms_iou", "max_detections", "top_k"):
        if getattr(settings, name) is not None and name not in task.filters:
            raise ConfigError(f"{name} means nothing to task={task.name}, which has: {', '.join(sorted(task.filters))}.")
    thresholds = score_thresholds(categories, settings.classes, settings.exclude, settings.min_score)
    return Filters(thresholds, settings.min_area, settings.nms_iou, settings.max_detections)


def build_views(settings: Settings, task: Task, spec: ModelSpec) -> Views:
    """What the model is to be shown of an image. Raises ConfigError for what cannot be put together again."""
    tiles, columns = settings.tiles, set(task.schema.names)
    if tiles["size"] is not None and not columns.issuperset(BOX):
        raise ConfigError(f"tiles.size means nothing to task={task.name}, which has no boxes to put together; leave it out.")
    shapes = sorted(columns & {"mask_rle", "keypoints"})
    if tiles["merge"] == "nmm" and shapes:
        raise ConfigError(f"tiles.merge=nmm joins boxes only; task={task.name} has {shapes[0]} too. Say tiles.merge=nms.")
    if settings.flip and "keypoints" in columns and not spec.keypoint_names:
        raise ConfigError(f"flip=true: model={spec.name} does not name its points: left and right cannot be exchanged.")
    union = tiles["merge"] == "nmm"
    return Views(tiles["size"], tiles["overlap"], tiles["iou"], union, settings.flip, spec.keypoint_names)


def remaining(plan: Plan, folder: RunFolder) -> list[int]:
    """The shards without a marker, in order."""
    folder.check_parts()
    done = folder.committed()
    return [shard_id for shard_id in range(plan.n_shards) if shard_id not in done]


def prepare(settings: Settings, parts: Parts, determined_by: dict[str, Any], plan: Plan, folder: RunFolder) -> ShardRunner:
    """Load the weights, write run.json, and put the runner together."""
    model = parts.format.load()
    parts.engine.prepare(model)
    this = record(settings, parts.spec, determined_by, model.weights_sha256, parts.engine.device)
    folder.publish_json("run.json", merge_record(folder.path / "run.json", this))
    committed = folder.committed()
    done = sum(size for shard_id, size in plan.shard_sizes() if shard_id in committed)
    return ShardRunner(
        plan=plan,
        folder=folder,
        loader=Loader(parts.source, model, settings.batch_size, settings.workers, settings.max_pixels, parts.views),
        engine=parts.engine,
        task=parts.task,
        keep=parts.filters.apply,
        sinks=parts.sinks,
        progress=Progress(done, plan.n_images, quiet=settings.log_level in ("warning", "error")),
    )
