"""Show what changed between two runs over the same images, without ground truth.

  compare runs=[BEFORE,AFTER]

Images are matched by key. Boxes are matched one to one by overlap, boxes of the same class first.
For classes of whole images, the best class is compared. The command writes images.parquet,
predictions.parquet (the rows that changed) and summary.json.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, fields
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from omegaconf import OmegaConf

from pipeline.config.declare import setting
from pipeline.config.task_classes import find_task
from pipeline.config.validators import (
    build_refusal,
    check_fraction,
    check_optional_path,
    check_paths,
)
from pipeline.core.errors import ConfigError, suggest_nearest
from pipeline.core.locations import Location
from pipeline.core.task_roles import Content, RowComparison
from pipeline.results.comparison.aligned_reader import read_aligned
from pipeline.results.comparison.changes import ImageChanges, find_changes
from pipeline.results.comparison.matchers import BoxMatcher, LabelMatcher, MaskMatcher, RowMatcher
from pipeline.results.comparison.row_fates import DUPLICATE, Tolerance
from pipeline.results.comparison.totals import ChangeTotals
from pipeline.results.settings_diff import diff_settings, format_settings_diff
from pipeline.runs.finished_run import FinishedRun
from pipeline.storage.publish import publish_folder

# Rounding changes the scores and boxes of a model by this much if batches have other sizes. Masks
# may differ in a few pixels along their edges, embeddings in the last digits.
_ROUNDING = Tolerance(score=2e-4, box=0.05, mask=0.01, embedding=1e-4)


def parse_two_runs(key: str, value: Any) -> tuple[Location, Location]:
    """Parse the locations of exactly two runs."""
    given = check_paths(key, value)
    if len(given) != 2:
        raise build_refusal(key, value, "two runs, such as [outputs/detect-a-1234,outputs/latest]")
    return given[0], given[1]


def parse_tolerance(key: str, value: Any) -> Tolerance:
    """Parse a mapping of tolerances. A tolerance that is not given keeps its default."""
    known = [field.name for field in fields(Tolerance)]
    if not OmegaConf.is_dict(value):
        raise build_refusal(key, value, "a mapping such as {score: 0.01, box: 2}")
    for name in value:
        if name not in known:
            raise ConfigError(
                f"{key}: there is no {name!r}.{suggest_nearest(str(name), known)} It has "
                f"{', '.join(known)}."
            )
    given = {
        str(name): check_fraction(float("inf"))(f"{key}.{name}", most)
        for name, most in value.items()
    }
    return Tolerance(**(asdict(_ROUNDING) | given))


@dataclass(frozen=True)
class Options:
    runs: tuple[Location, Location] = setting(
        parse_two_runs, help="two folders of runs: [BEFORE,AFTER]"
    )
    output: Location | None = setting(
        check_optional_path,
        None,
        "a new folder; AFTER/compare/BEFORE's name unless given, made anew",
    )
    iou: float = setting(check_fraction(1.0), 0.5, "least IoU of two boxes that can be one object")
    tolerance: Tolerance = setting(
        parse_tolerance, _ROUNDING, "largest differences that count as rounding; give any of these"
    )


def run_command(options: Options) -> str:
    """Compare two runs, write the three files and return the command's output text."""
    before, after = (FinishedRun.open(path) for path in options.runs)
    matcher = _matcher(before, after, options.iou)
    names = pa.array(dict.fromkeys((*before.categories, *after.categories)), pa.string())
    totals = ChangeTotals(names.to_pylist())
    target = options.output or after.path / "compare" / before.path.name
    with (
        publish_folder(target.absolute(), replace=options.output is None) as stage,
        ExitStack() as files,
    ):
        writers: dict[str, pq.ParquetWriter] = {}
        for changes in _changes(before, after, matcher, names, options.tolerance):
            totals.add(changes)
            for name, rows in (
                ("images", changes.images),
                ("predictions", changes.predictions),
            ):
                if name not in writers:
                    path = stage / f"{name}.parquet"
                    writers[name] = files.enter_context(
                        pq.ParquetWriter(path, rows.schema, compression="zstd")
                    )
                writers[name].write_table(rows)
        if not (totals.in_both or totals.images[DUPLICATE]):
            raise ConfigError(_nothing_shared(before, after))
        settings = diff_settings(before.record, after.record)
        summary = {
            "before": str(before.path),
            "after": str(after.path),
            "settings": settings,
            "iou": options.iou,
        }
        summary |= {"tolerance": asdict(options.tolerance)} | totals.as_dict()
        (stage / "summary.json").write_text(
            json.dumps(summary, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
        )
    return _text(before, after, settings, totals, target)


def _matcher(before: FinishedRun, after: FinishedRun, iou: float) -> RowMatcher:
    """Build the matcher that the tasks of both runs declare.

    Raises:
        ConfigError: a task's rows cannot be compared, or the two tasks need different matchers.
    """
    tasks = find_task(before.task), find_task(after.task)
    for task in tasks:
        if task.comparison is RowComparison.NONE:
            raise ConfigError(f"runs: rows of task={task.name} cannot be compared.")
    comparison = tasks[0].comparison
    if comparison is tasks[1].comparison:
        if comparison is RowComparison.BOXES:
            return BoxMatcher(iou)
        if comparison is RowComparison.REGIONS:
            return MaskMatcher()
        (column,) = Content.EMBEDDINGS.columns
        have_embeddings = all(Content.EMBEDDINGS in task.contents for task in tasks)
        return LabelMatcher(
            have_embeddings and before.schema.field(column) == after.schema.field(column)
        )
    raise ConfigError(
        f"runs: {before.task} and {after.task} have nothing in common that could be compared."
    )


def _changes(
    before: FinishedRun,
    after: FinishedRun,
    matcher: RowMatcher,
    names: pa.Array,
    tolerance: Tolerance,
) -> Iterator[ImageChanges]:
    """Yield the changes of one window of images after another."""
    for window in read_aligned(before, after, ("class_name", "score", *matcher.columns)):
        yield find_changes(window, matcher, names, tolerance)


def _nothing_shared(before: FinishedRun, after: FinishedRun) -> str:
    """Return the error message for two runs that have no image in common."""
    first = [
        run.read_table("images", run.shard_ids[0], ["key"])["key"][0].as_py()
        for run in (before, after)
    ]
    return (
        f"runs: no image is in both. {before.path} has {first[0]!r} ..., {after.path} has "
        f"{first[1]!r} ... "
        "Images are matched by their path below the input folder, suffix included."
    )


def _text(
    before: FinishedRun,
    after: FinishedRun,
    settings: Mapping[str, list[Any]],
    totals: ChangeTotals,
    target: Location,
) -> str:
    lines = [totals.headline(), "", f"before  {before.path}", f"after   {after.path}"]
    return "\n".join(
        [*lines, "", format_settings_diff(settings), "", totals.text(), "", f"files: {target}"]
    )
