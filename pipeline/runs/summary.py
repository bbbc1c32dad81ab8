"""The two texts a person reads: the plan before a run, the summary after it. From Parquet and names; no model."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.parquet as pq

from pipeline.config.settings import Settings
from pipeline.config.sweep_outcomes import RunResult
from pipeline.core.cpu import count_available_cores
from pipeline.core.errors import shorten_list
from pipeline.core.text_tables import format_pairs
from pipeline.core.timing import STAGES
from pipeline.core.types import Status
from pipeline.inference.precision_check import PrecisionAgreement
from pipeline.ops.filters import PLACEHOLDERS
from pipeline.runs.bottleneck import describe_bottleneck
from pipeline.runs.components import Components
from pipeline.runs.plan import Plan, PlanDifference, find_new_entries
from pipeline.runs.run_folder import RunFolder

if TYPE_CHECKING:
    from pipeline.runs.session import RunSession

_MOST_CLASSES = 15


def describe_plan(settings: Settings, parts: Components, plan: Plan, folder: RunFolder) -> str:
    """What `run` would do now. Writes nothing."""
    spec, filters, source = parts.spec, parts.filters, parts.source
    difference = PlanDifference()
    new = sum(1 for _ in find_new_entries(plan.entries_by_key(), source.entries(), difference))
    n_images = min(plan.n_images + new, settings.limit or plan.n_images + new)
    n_new = n_images - plan.n_images
    kept = [
        name for name, least in zip(spec.categories, filters.min_scores, strict=True) if least <= 1
    ]
    kept = [name for name in dict.fromkeys(kept) if name not in PLACEHOLDERS]
    shards = plan.n_shards + -(-n_new // settings.shard_size)
    rows = {
        "task": settings.task,
        "model": spec.name,
        "weights": spec.weights,
        "input": source.identity.partition(":")[2],
        "images": f"{n_images:,}" + (f", {n_new:,} of them new" if plan.parts else ""),
        "shards": f"{shards:,} of at most {settings.shard_size}, {len(folder.committed_shards()):,} complete",
        "batch size": str(parts.batch_size or "to be measured"),
        "views": _views(settings),
        "classes": f"{len(kept)} of {len(set(spec.categories) - PLACEHOLDERS)}: {shorten_list(kept, 100)}",
        "min score": str(settings.min_score),
        "output": str(folder.path),
    }
    changed = len(difference.changed) + len(difference.removed)
    if changed:
        rows["changed"] = (
            f"{changed:,} inputs since the run began; run will name them and refuse (changed=accept goes on)"
        )
    return "Plan (dry_run: nothing is written)\n" + format_pairs(rows)


def _views(settings: Settings) -> str:
    size, overlap = settings.tiles.size, settings.tiles.overlap
    shown = ["the whole image"]
    if size is not None:
        shown.append(f"tiles of {size} x {size} pixels that overlap by {overlap:.0%}")
    if settings.flip:
        shown.append("mirror images")
    return ", ".join(shown)


def summarize_run(work: "RunSession", said: str | None) -> RunResult:
    """How the run ended and where its files are. `said`: by the executor, where shards are still to be done."""
    folder, plan, shard = work.folder, work.plan, work.settings.shard
    mine = range(shard.index, plan.n_shards, shard.count)
    statuses, classes = count_rows(folder, mine)
    bad = sum(count for status, count in statuses.items() if Status(status).is_error)
    lines = [_title(work, statuses.total(), classes.total(), bad)]
    if said:
        lines += ["", said]
    lines += [
        "",
        "images by status",
        format_pairs({k: f"{v:,}" for k, v in statuses.most_common()} or {"none": ""}),
    ]
    top = dict(classes.most_common(_MOST_CLASSES))
    lines += [
        "",
        "predictions by class",
        format_pairs({k: f"{v:,}" for k, v in top.items()} or {"none": ""}),
    ]
    if len(classes) > len(top):
        rest = sum(classes.values()) - sum(top.values())
        lines.append(f"  ... and {rest:,} of {len(classes) - len(top)} other classes")
    lines += _speed(work)
    agreement = folder.local("agreement.json")
    if agreement.is_file():
        lines += ["", PrecisionAgreement(**json.loads(agreement.read_text())).describe()]
    lines += ["", "files", format_pairs(_files(folder))]
    return RunResult("\n".join(lines), 0 if said else bad, folder.path)


def _title(work: "RunSession", images: int, predictions: int, bad: int) -> str:
    """Of a process that did a part of the run, what is still missing of all of it."""
    index, count = work.settings.shard.index, work.settings.shard.count
    missing, left = len(work.remaining()), len(work.remaining(index, count))
    title = f"{images:,} images, {predictions:,} predictions" + (
        f", {bad:,} images not usable" if bad else ""
    )
    title += "" if work.images or left else " (nothing was left to do)"
    if left:
        return f"Not complete: {title}; {missing:,} of {work.plan.n_shards:,} shards are to be done"
    if count == 1:
        return f"Complete: {title}"
    others = (
        f"{missing:,} of all {work.plan.n_shards:,} shards are not done yet"
        if missing
        else "so is the run"
    )
    return f"Part {index} of {count} is complete: {title}; {others}"


def _speed(work: "RunSession") -> list[str]:
    """Of this session, and where the time went, if that was here."""
    if not work.images or not work.seconds:
        return []
    done = (
        f"{work.images / work.seconds:.1f} images/s ({work.images:,} images in {work.seconds:.1f} s"
    )
    if work.runner is None:
        return ["", f"{done})"]
    predictor, engine = work.runner.predictor, work.runner.predictor.engine
    spent = work.runner.timer.total_seconds()
    stages = "  ".join(f"{name} {spent[name]:.1f}" for name in STAGES)
    limit = describe_bottleneck(
        spent,
        work.seconds,
        predictor.decode_workers,
        count_available_cores(),
        engine.device,
        engine.precision,
    )
    return [
        "",
        f"{done} on {engine.device})",
        f"  seconds per stage (threads overlap): {stages}",
        f"  {limit}",
    ]


def count_rows(folder: RunFolder, shard_ids: Iterable[int]) -> tuple[Counter[str], Counter[str]]:
    """(images by status, predictions by class) over those of the shards that are committed."""
    done = sorted(folder.committed_shards() & set(shard_ids))
    statuses = _count_column(
        folder.store.fetch_all(folder.part_name("images", i) for i in done), "status"
    )
    classes = _count_column(
        folder.store.fetch_all(folder.part_name("predictions", i) for i in done), "class_name"
    )
    return statuses, classes


def _count_column(parts: Iterable[Path], column: str) -> Counter[str]:
    counted: Counter[str] = Counter()
    for part in parts:
        if part.is_file():
            values = pq.read_table(part, columns=[column], partitioning=None)[column].value_counts()
            counted.update({str(one["values"]): one["counts"].as_py() for one in values})
    return counted


def _files(folder: RunFolder) -> Mapping[str, str]:
    run = folder.path
    found = {
        "rows": f"{run}/images/*.parquet  {run}/predictions/*.parquet",
        "pictures": f"{run}/overlays/",
        "report": f"{run}/report.html",
        "settings": f"{run}/run.json",
        "latest": f"{run.parent}/latest -> {run.name}",
    }
    there = {"pictures": "overlays", "report": "report.html"}
    return {
        name: place
        for name, place in found.items()
        if name not in there or folder.store.contains(there[name])
    }
