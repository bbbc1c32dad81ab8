"""Apply a stricter filter to a finished run. The result is a new run.

  refilter run=outputs/latest min_score=0.7 classes=[dog]

A setting that is not given keeps its value from the run.
"""

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.config.declare import setting
from pipeline.config.task_classes import find_task
from pipeline.config.validators import (
    check_area,
    check_min_score,
    check_names,
    check_optional_fraction,
    check_optional_integer,
    check_optional_path,
    check_path,
)
from pipeline.core.errors import ConfigError
from pipeline.core.locations import Location
from pipeline.core.shard_names import make_part_name
from pipeline.core.task_roles import Content
from pipeline.ops.filters import (
    PLACEHOLDERS,
    Filters,
    find_class_names,
    make_score_thresholds,
)
from pipeline.runs.fingerprint import (
    describe_exact_names,
    make_run_name,
    normalize_filters,
)
from pipeline.runs.finished_run import FinishedRun
from pipeline.runs.plan import load_plan
from pipeline.runs.run_folder import RunFolder

_BOXES = ("min_area", "nms_iou", "max_detections")
_COUNTED = ("nms_iou", "max_detections")  # a run applies them after the other filters
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Options:
    run: Location = setting(check_path, Path("outputs/latest"), "the run's folder")
    output: Location | None = setting(
        check_optional_path,
        None,
        "the folder in which the new run folder is made; beside the run unless given",
    )
    min_score: float | Mapping[str, float] | None = setting(
        check_min_score, None, "lowest score: 0.7, or {default: 0.5, person: 0.8}"
    )
    classes: tuple[str, ...] | None = setting(
        check_names, None, "only these class names: [dog, cat]"
    )
    exclude: tuple[str, ...] | None = setting(
        check_names, None, "all but these class names: [person]"
    )
    min_area: float | None = setting(check_area, None, "smallest area of a box, in square pixels")
    nms_iou: float | None = setting(
        check_optional_fraction,
        None,
        "drop a box if its IoU with a box of any class and a higher score is above this",
    )
    max_detections: int | None = setting(
        check_optional_integer(1), None, "at most this many boxes for each image"
    )
    top_k: int | None = setting(
        check_optional_integer(1), None, "classes for each image, if the run has ranked classes"
    )


def run_command(options: Options) -> str:
    """Write the filtered run and return the command's output text."""
    run = FinishedRun.open(options.run)
    before = run.record["fingerprint_of"]["filters"]
    wanted = _wanted(options, before, run.categories)
    _check_task(run, wanted, before)
    keep = _filter(run, wanted, before)
    determined_by = (
        run.record["fingerprint_of"]
        | {"filters": wanted, "parent": _identity(run)}
        | describe_exact_names(wanted, run.categories)
    )
    folder = RunFolder((options.output or run.path.parent) / make_run_name(determined_by))
    done = folder.committed_shards()
    kept = 0
    with folder.lock():
        _publish_plan(run, folder)
        record = run.record | {"fingerprint_of": determined_by, "parent": determined_by["parent"]}
        folder.publish_json("run.json", record | {"config": record["config"] | wanted})
        for shard_id in run.shard_ids:
            if shard_id not in done:
                _commit(run, folder, shard_id, keep, wanted["top_k"])
            kept += pq.read_metadata(
                folder.local(folder.part_name("predictions", shard_id))
            ).num_rows
    return (
        f"{folder.path}: {kept:,} of {run.count_rows('predictions'):,} predictions of {run.path}."
    )


def _wanted(
    options: Options, before: Mapping[str, Any], categories: Sequence[str]
) -> dict[str, Any]:
    """Return the filter settings of the new run.

    If `min_score` is given for some classes only, the other classes keep theirs.
    """
    given = {name: getattr(options, name) for name in before}
    wanted = {name: before[name] if value is None else value for name, value in given.items()}
    if isinstance(given["min_score"], dict) and "default" not in given["min_score"]:
        old = before["min_score"] if isinstance(before["min_score"], dict) else {}
        renewed = find_class_names(given["min_score"], categories, "min_score")
        kept = {
            name: score
            for name, score in old.items()
            if name == "default"
            or not set(find_class_names([name], categories, "min_score")) <= set(renewed)
        }
        wanted["min_score"] = {"default": before["min_score"]} | kept | given["min_score"]
    wanted = normalize_filters(wanted, categories)
    if wanted == before:
        raise ConfigError(
            "refilter: nothing is asked for that the run does not have. Say one of "
            f"{', '.join(before)}."
        )
    return wanted


def _check_task(run: FinishedRun, wanted: Mapping[str, Any], before: Mapping[str, Any]) -> None:
    """Check the filters against the task, and warn about their order.

    Raises:
        ConfigError: the task does not have a filter, or top_k is larger than in the run.
    """
    filters = find_task(run.task).filters
    wrong = [
        name
        for name in (*_BOXES, "top_k")
        if name not in filters and wanted[name] not in (None, before[name])
    ]
    if wrong:
        raise ConfigError(f"{wrong[0]}: {run.task} has no such filter.")
    if wanted["top_k"] and before["top_k"] and wanted["top_k"] > before["top_k"]:
        raise ConfigError(
            f"top_k={wanted['top_k']}: the run kept the best {before['top_k']}; what it left out "
            "is not there."
        )
    for name in _COUNTED:
        if before[name] is not None:
            log.warning(
                "%s=%s had its say before this filter; in a run with both it would come after.",
                name,
                before[name],
            )


def _filter(run: FinishedRun, wanted: Mapping[str, Any], before: Mapping[str, Any]) -> Filters:
    """Build the filter of the new run.

    Raises:
        ConfigError: the filter is looser than the run's, so it needs rows that the run dropped.
    """
    names = run.categories
    thresholds, old = (
        np.array(make_score_thresholds(names, one["classes"], one["exclude"], one["min_score"]))
        for one in (wanted, before)
    )
    looser = [names[i] for i in np.flatnonzero(thresholds < old) if names[i] not in PLACEHOLDERS]
    if looser:
        least = old[names.index(looser[0])]
        had = f"only from a score of {least:g}" if np.isfinite(least) else "not at all"
        raise ConfigError(
            f"The run kept {looser[0]!r} {had}; for a looser filter the model must run again."
        )
    if before["min_area"] is not None and wanted["min_area"] < before["min_area"]:
        raise ConfigError(
            f"min_area={wanted['min_area']:g}: the run kept nothing below {before['min_area']:g}. "
            "Run it anew."
        )
    for name in _COUNTED:
        if before[name] is not None and wanted[name] > before[name]:
            raise ConfigError(
                f"{name}={wanted[name]:g}: the run was made with {before[name]:g}; the model must "
                "run again."
            )
    return Filters(tuple(thresholds.tolist()), *(wanted[name] for name in _BOXES))


def _commit(
    run: FinishedRun, folder: RunFolder, shard_id: int, keep: Filters, top_k: int | None
) -> None:
    """Filter one shard and commit it to the new run's folder."""
    images, predictions = (
        run.read_table("images", shard_id),
        run.read_table("predictions", shard_id),
    )
    if top_k is not None and Content.RANKS.is_in(predictions.schema):
        predictions = predictions.filter(pc.less_equal(predictions["rank"], top_k))
    predictions = keep.apply(predictions)
    stage = folder.create_stage(shard_id)
    for kind, rows in (("images", _recounted(images, predictions)), ("predictions", predictions)):
        (stage / kind).mkdir()
        pq.write_table(rows, stage / kind / make_part_name(shard_id), compression="zstd")
    folder.commit(shard_id, len(images), stage)


def _recounted(images: pa.Table, predictions: pa.Table) -> pa.Table:
    """Return the images with `n_predictions` counted anew. Null stays null."""
    ids = images["image_id"].to_numpy()
    counts = np.bincount(predictions["image_id"].to_numpy() - ids[0], minlength=len(ids)).astype(
        np.int32
    )
    column = pc.if_else(
        pc.is_valid(images["n_predictions"]), pa.array(counts), pa.scalar(None, pa.int32())
    )
    at = images.schema.get_field_index("n_predictions")
    return images.set_column(at, images.schema.field(at), column)


def _identity(run: FinishedRun) -> dict[str, str]:
    """Return the run's name and a hash of its markers, which changes if its rows change."""
    digest = hashlib.sha256()
    for shard_id in run.shard_ids:
        # The parts do not include pictures, which may be added later.
        parts = run.folder.read_marker(shard_id)["parts"]
        digest.update(json.dumps(parts, sort_keys=True).encode())
    return {"run": run.path.name, "committed": digest.hexdigest()}


def _publish_plan(run: FinishedRun, folder: RunFolder) -> None:
    """Copy the run's plan, unless an earlier call has copied it."""
    if load_plan(folder).parts:
        return
    names = [*(part.file for part in run.plan.parts), "plan/plan.json"]
    for name in names:
        staged = folder.staging / name
        staged.parent.mkdir(parents=True, exist_ok=True)
        staged.write_bytes(run.folder.local(name).read_bytes())
        folder.publish_file(name)
