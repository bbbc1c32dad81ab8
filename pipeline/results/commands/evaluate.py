"""Measure accuracy with annotations: evaluate run=outputs/latest truth=FILE.

  boxes, masks, keypoints   truth=FILE in COCO's format or YOLO's, or FOLDER (also VOC):
                            AP, AR, best score threshold by class, confusion matrix
  classes of whole images   truth=FILE (CSV, Parquet, JSON: key, label) or FOLDER (a sub-folder
                            for each class): top-1, top-5
  segmentation              truth=FOLDER of indexed PNG files with the images' names, or masks in
                            the formats above; pixels of value 255 do not count: mIoU

The command writes summary.json, per_class.csv, confusion.csv and plots to RUN/evaluation.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv

from pipeline.config.declare import setting
from pipeline.config.validators import (
    check_fraction,
    check_local_path,
    check_optional_path,
    check_path,
)
from pipeline.core.errors import ConfigError
from pipeline.core.hashing import hash_file
from pipeline.core.locations import Location
from pipeline.outputs.row_values import escape_formulas
from pipeline.results.evaluation.evaluate import evaluate, list_evaluation_methods
from pipeline.results.evaluation.result import Confusion, Evaluation
from pipeline.results.evaluation.text import format_evaluation
from pipeline.runs.finished_run import FinishedRun
from pipeline.storage.publish import publish_folder

SUMMARY_VERSION = "1"


@dataclass(frozen=True)
class Options:
    run: Location = setting(check_path, Path("outputs/latest"), "the run's folder")
    truth: Path | None = setting(
        check_local_path, None, "the annotations: a file or folder, see above; must be given"
    )
    score: float = setting(
        check_fraction(1.0), 0.5, "boxes: the confusion matrix leaves out lower scores"
    )
    output: Location | None = setting(
        check_optional_path, None, "a new folder; RUN/evaluation unless given, made anew each time"
    )


def run_command(options: Options) -> str:
    """Evaluate a run, write the files and return the command's output text."""
    run = FinishedRun.open(options.run)
    list_evaluation_methods(run.task)  # a task without methods is refused before truth is asked for
    if options.truth is None:
        raise ConfigError(
            "evaluate needs truth=FILE or FOLDER with annotations; docs/evaluate.md lists the "
            "formats."
        )
    found = evaluate(run, options.truth, options.score)
    target = options.output or run.path / "evaluation"
    with publish_folder(target.absolute(), replace=options.output is None) as folder:
        save_evaluation(found, make_summary(run, options.truth, found), folder)
    return (
        f"{format_evaluation(found)}\n\n"
        f"{target}: summary.json, per_class.csv, confusion.csv and pictures."
    )


def make_summary(run: FinishedRun, truth: Path, found: Evaluation) -> dict[str, Any]:
    """Return the content of summary.json. Other programs rely on its keys."""
    return {
        "version": SUMMARY_VERSION,
        "run": run.path.name,
        "task": run.task,
        "model": run.record["model"],
        "truth": str(truth),
        "truth_sha256": hash_file(truth) if truth.is_file() else None,
        "kind": found.kind,
        "images": asdict(found.images),
        "figures": found.figures,
        "settings": found.settings,
        "notes": found.notes,
        "classes": found.classes,
    }


def save_evaluation(found: Evaluation, summary: Mapping[str, Any], folder: Path) -> None:
    """Write summary.json, the two tables and the pictures into a folder."""
    from pipeline.results.evaluation.plots import save_evaluation_plots

    text = json.dumps(summary, indent=1, ensure_ascii=False) + "\n"
    (folder / "summary.json").write_text(text, encoding="utf-8")
    _write_csv(pa.Table.from_pylist([dict(row) for row in found.classes]), folder / "per_class.csv")
    _write_csv(_listed(found.confusion), folder / "confusion.csv")
    save_evaluation_plots(found, folder)


def _write_csv(table: pa.Table, path: Path) -> None:
    """Write a table as CSV. Texts are escaped, so that no spreadsheet reads them as formulas."""
    columns = [
        escape_formulas(column) if pa.types.is_string(column.type) else column
        for column in table.columns
    ]
    pyarrow.csv.write_csv(pa.table(columns, table.schema.names), path)


def _listed(confusion: Confusion) -> pa.Table:
    """Return a row for each pair of classes whose count is not zero.

    The whole matrix of 1000 classes would be mostly zeros.
    """
    truth, found = np.nonzero(confusion.counts)
    names = pa.array(confusion.names, pa.string())
    return pa.table(
        {
            "truth": names.take(pa.array(truth)),
            "found": names.take(pa.array(found)),
            confusion.unit: confusion.counts[truth, found],
        }
    )
