"""Describe a run to the user: its plan before it starts, its summary at the end. Loads no model."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import pyarrow.parquet as pq

from pipeline.config.settings import Settings
from pipeline.config.sweep_outcomes import RunResult
from pipeline.core.cpu import count_available_cores
from pipeline.core.errors import shorten_list
from pipeline.core.protocols import ExecutionResult
from pipeline.core.text_tables import format_pairs
from pipeline.core.timing import STAGES
from pipeline.core.types import Status
from pipeline.inference.precision_check import PrecisionAgreement
from pipeline.ops.filters import PLACEHOLDERS
from pipeline.runs.bottleneck import describe_bottleneck
from pipeline.runs.components import Components
from pipeline.runs.plan_freezing import PlanDifference, find_new_entries
from pipeline.runs.run_folder import RunFolder
from pipeline.runs.session import RunSession

_MOST_CLASSES = 15


def describe_plan(session: RunSession) -> str:
    """Describe what `run` would do with these settings. Writes nothing."""
    settings, parts, plan = session.settings, session.parts, session.plan
    spec, source = parts.spec, parts.source
    difference = PlanDifference()
    new = sum(1 for _ in find_new_entries(plan.entries_by_key(), source.entries(), difference))
    n_images = min(plan.n_images + new, settings.limit or plan.n_images + new)
    n_new = n_images - plan.n_images
    shards = plan.n_shards + -(-n_new // settings.shard_size)
    committed = len(session.folder.committed_shards())

    rows = {
        "task": settings.task,
        "model": spec.name,
        "weights": spec.weights,
        "input": source.identity.partition(":")[2],
        "images": f"{n_images:,}" + (f", {n_new:,} of them new" if plan.parts else ""),
        "shards": f"{shards:,} of at most {settings.shard_size}, {committed:,} complete",
        "batch size": str(parts.batch_size or "to be measured"),
        "views": _describe_views(settings),
        "classes": _describe_classes(parts),
        "min score": str(settings.min_score),
        "output": str(session.folder.path),
    }
    if passed_over := source.passed_over.describe():
        rows["passed over"] = passed_over
    changed = len(difference.changed) + len(difference.removed)
    if changed:
        rows["changed"] = (
            f"{changed:,} inputs since the run began; run will name them and refuse "
            "(changed=accept goes on)"
        )
    return "Plan (dry_run: nothing is written)\n" + format_pairs(rows)


def _describe_views(settings: Settings) -> str:
    size, overlap = settings.tiles.size, settings.tiles.overlap
    views = ["the whole image"]
    if size is not None:
        views.append(f"tiles of {size} x {size} pixels that overlap by {overlap:.0%}")
    if settings.flip:
        views.append("mirror images")
    return ", ".join(views)


def _describe_classes(parts: Components) -> str:
    """Return how many classes the filters can keep, and their names."""
    categories = parts.spec.categories
    thresholds = zip(categories, parts.filters.min_scores, strict=True)
    kept = [name for name, threshold in thresholds if threshold <= 1]
    kept = [name for name in dict.fromkeys(kept) if name not in PLACEHOLDERS]
    return f"{len(kept)} of {len(set(categories) - PLACEHOLDERS)}: {shorten_list(kept, 100)}"


def summarize_run(session: RunSession, result: ExecutionResult, n_drawn: int) -> RunResult:
    """Describe how the run ended and where its files are.

    Args:
        session: The run.
        result: What the executor did in this session.
        n_drawn: Images whose pictures were drawn from committed rows.
    """
    folder, shard = session.folder, session.settings.shard
    shard_ids = range(shard.index, session.plan.n_shards, shard.count)
    statuses, classes = count_rows(folder, shard_ids)
    n_bad = sum(count for status, count in statuses.items() if Status(status).is_error)

    lines = [_make_title(session, result, statuses.total(), classes.total(), n_bad)]
    if result.message:
        lines += ["", result.message]
    lines += ["", "images by status", _format_counts(statuses)]
    lines += ["", "predictions by class", _format_counts(classes, _MOST_CLASSES)]
    if len(classes) > _MOST_CLASSES:
        rest = sum(count for _, count in classes.most_common()[_MOST_CLASSES:])
        lines.append(f"  ... and {rest:,} of {len(classes) - _MOST_CLASSES} other classes")
    if passed_over := session.parts.source.passed_over.describe():
        lines += ["", f"Passed over in the input: {passed_over}"]
    if n_drawn:
        lines += ["", f"Pictures of {n_drawn:,} images were drawn from the committed rows."]
    lines += _describe_speed(session, result)

    agreement = folder.local("agreement.json")
    if agreement.is_file():
        lines += ["", PrecisionAgreement(**json.loads(agreement.read_text())).describe()]
    lines += ["", "files", format_pairs(_list_files(folder))]
    return RunResult("\n".join(lines), 0 if result.message else n_bad, folder.path)


def _format_counts(counts: Counter[str], most: int | None = None) -> str:
    rows = {name: f"{count:,}" for name, count in counts.most_common(most)}
    return format_pairs(rows or {"none": ""})


def _make_title(
    session: RunSession, result: ExecutionResult, n_images: int, n_predictions: int, n_bad: int
) -> str:
    """Say what is complete: the run, or this process's part of it and what the others lack."""
    index, count = session.settings.shard.index, session.settings.shard.count
    n_missing = len(session.list_uncommitted())
    n_left = len(session.list_uncommitted(index, count))
    n_shards = session.plan.n_shards

    title = f"{n_images:,} images, {n_predictions:,} predictions"
    title += f", {n_bad:,} images not usable" if n_bad else ""
    title += "" if result.images or n_left else " (nothing was left to do)"
    if n_left:
        return f"Not complete: {title}; {n_missing:,} of {n_shards:,} shards are to be done"
    if count == 1:
        return f"Complete: {title}"
    others = (
        f"{n_missing:,} of all {n_shards:,} shards are not done yet"
        if n_missing
        else "so is the run"
    )
    return f"Part {index} of {count} is complete: {title}; {others}"


def _describe_speed(session: RunSession, result: ExecutionResult) -> list[str]:
    """Return the speed of this session, and the bottleneck if this process computed the shards."""
    if not result.images or not result.seconds:
        return []
    rate = result.images / result.seconds
    speed = f"{rate:.1f} images/s ({result.images:,} images in {result.seconds:.1f} s"
    if result.stage_seconds is None:
        return ["", f"{speed})"]
    engine, seconds = session.parts.engine, result.stage_seconds
    stages = "  ".join(f"{name} {seconds[name]:.1f}" for name in STAGES)
    bottleneck = describe_bottleneck(
        seconds,
        result.seconds,
        result.decode_workers,
        count_available_cores(),
        engine.device,
        engine.precision,
    )
    return [
        "",
        f"{speed} on {engine.device})",
        f"  seconds per stage (threads overlap): {stages}",
        f"  {bottleneck}",
    ]


def count_rows(folder: RunFolder, shard_ids: Iterable[int]) -> tuple[Counter[str], Counter[str]]:
    """Return (images by status, predictions by class) of the committed shards among these."""
    committed = sorted(folder.committed_shards() & set(shard_ids))
    columns = {"images": "status", "predictions": "class_name"}
    statuses, classes = (
        _count_values(folder.store.fetch_all(folder.part_name(kind, i) for i in committed), column)
        for kind, column in columns.items()
    )
    return statuses, classes


def _count_values(parts: Iterable[Path], column: str) -> Counter[str]:
    counter: Counter[str] = Counter()
    for part in parts:
        if part.is_file():
            values = pq.read_table(part, columns=[column], partitioning=None)[column]
            for row in values.value_counts():
                counter[str(row["values"])] += row["counts"].as_py()
    return counter


def _list_files(folder: RunFolder) -> Mapping[str, str]:
    """Return the paths of the run's files for the user, without those that do not exist."""
    run = folder.path
    files = {
        "rows": f"{run}/images/*.parquet  {run}/predictions/*.parquet",
        "pictures": f"{run}/overlays/",
        "report": f"{run}/report.html",
        "settings": f"{run}/run.json",
        "latest": f"{run.parent}/latest -> {run.name}",
    }
    optional = {"pictures": "overlays", "report": "report.html"}
    return {
        name: place
        for name, place in files.items()
        if name not in optional or folder.store.contains(optional[name])
    }
