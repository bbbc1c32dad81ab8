"""Make the table of a sweep's runs, best first.

With `truth=`, a plot of accuracy against speed is made too.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.config.sweep import Job
from pipeline.core.errors import PipelineError
from pipeline.core.hashing import hash_text
from pipeline.core.locations import Location
from pipeline.core.tables import mark_failed
from pipeline.core.text_tables import format_columns
from pipeline.core.timing import read_timings
from pipeline.runs.finished_run import FinishedRun
from pipeline.storage.publish import publish_folder

_COUNTS = ("images", "failed", "predictions", "images_per_s")


def summarize_sweep(jobs: Sequence[Job], truth: Path | None, output: Location) -> str:
    """Write the files of a sweep and return its table of runs as text.

    The most accurate run comes first. Without `truth`, the fastest run comes first. The files are
    sweep.parquet and, with `truth`, accuracy.svg in OUTPUT/sweeps/HASH, where HASH is computed from
    the settings.
    """
    keys = dict.fromkeys(key for one in jobs for key in one.settings)
    varied = [key for key in keys if len({one.settings.get(key) for one in jobs}) > 1]
    measured = [_accuracy(one.run, truth) if truth and one.run else {} for one in jobs]
    accuracies = list(dict.fromkeys(name for one in measured for name in one if name != "error"))
    rows = [
        _row(one, varied, accuracies, figures) for one, figures in zip(jobs, measured, strict=True)
    ]
    order = [*accuracies[:1], "images_per_s"]
    rows.sort(key=lambda row: [-(row[name] or 0.0) for name in order])
    asked = json.dumps([dict(one.settings) for one in jobs] + [str(truth)], sort_keys=True)
    target = output / "sweeps" / hash_text(asked)
    with publish_folder(target.absolute(), replace=True) as stage:
        pq.write_table(pa.Table.from_pylist(rows), stage / "sweep.parquet")
        if accuracies:
            _save_plot(rows, varied, accuracies[0], stage / "accuracy.svg")
    texts = [_table(rows)]
    if len({row["run"] for row in rows if row["run"]}) < sum(
        row["run"] is not None for row in rows
    ):
        texts.append(
            "Combinations with one run differ in what does not change results; `bench` compares "
            "their speeds."
        )
    return "\n\n".join([*texts, f"  {target}/"])


def _accuracy(run: Location, truth: Path) -> dict[str, Any]:
    """Return the first two figures of a run's evaluation, or {"error": message}."""
    from pipeline.results.evaluation.evaluate import evaluate

    try:
        evaluation = evaluate(FinishedRun.open(run), truth)
    except PipelineError as error:
        return {"error": str(error)}
    return dict(list(evaluation.figures[evaluation.kind].items())[:2])


def _row(
    one: Job, varied: Sequence[str], accuracies: Sequence[str], figures: Mapping[str, Any]
) -> dict[str, Any]:
    """Return a run's row: the settings that vary, its accuracies, counts and error."""
    row: dict[str, Any] = {key: one.settings.get(key, "") for key in varied}
    row |= {name: figures.get(name) for name in accuracies}
    row |= _counts(FinishedRun.open(one.run)) if one.run else dict.fromkeys(_COUNTS)
    return row | {
        "run": one.run.name if one.run else None,
        "error": str(one.error) if one.error else figures.get("error"),
    }


def _counts(run: FinishedRun) -> dict[str, Any]:
    images = run.read_columns("images", ["status"])
    counts = (
        len(images),
        pc.sum(mark_failed(images)).as_py(),
        run.count_rows("predictions"),
        _rate(run),
    )
    return dict(zip(_COUNTS, counts, strict=True))


def _rate(run: FinishedRun) -> float | None:
    """Return images per second over all sessions of a run; None if it is not known.

    The time for loading the model is not counted.
    """
    timings = [one for one in read_timings(run.folder.local("timing.jsonl")) if "seconds" in one]
    seconds = sum(one["seconds"] for one in timings)
    return round(sum(one["images"] for one in timings) / seconds, 2) if seconds else None


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    names = [name for name in rows[0] if name != "error" or any(row["error"] for row in rows)]
    cells = [[_cell(row[name]) for name in names] for row in rows]
    texts = [i for i, name in enumerate(names) if any(isinstance(row[name], str) for row in rows)]
    return format_columns([names, *cells], left=texts)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value).splitlines()[0][:60]


def _save_plot(
    rows: Sequence[Mapping[str, Any]], varied: Sequence[str], accuracy: str, path: Path
) -> None:
    """Draw accuracy against speed, with a labelled point for each run."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.rcParams["svg.hashsalt"] = "sweep"
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for row in rows:
        if row[accuracy] is not None and row["images_per_s"] is not None:
            axes.plot(row["images_per_s"], row[accuracy], "o", color="#2b6cb0")
            label = ", ".join(f"{name}={row[name]}" for name in varied)
            at, above = (row["images_per_s"], row[accuracy]), (0, 7)
            axes.annotate(
                label, at, above, textcoords="offset points", ha="center", parse_math=False
            )
    axes.set(xlabel="images/s", ylabel=accuracy)
    axes.set_xlim(0, axes.get_xlim()[1] * 1.2)
    axes.set_ylim(0, axes.get_ylim()[1] * 1.2)
    figure.savefig(path, metadata={"Date": None})
