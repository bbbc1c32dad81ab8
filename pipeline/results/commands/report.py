"""Make one HTML page of a finished run. It opens offline.

  report run=outputs/latest

The page has the run's figures and a searchable gallery. Images that failed come first, then the
least certain ones. A run makes the same page at its end, with fewer thumbnails.
"""

from dataclasses import dataclass
from pathlib import Path

from pipeline.config.declare import setting
from pipeline.config.validators import check_integer, check_optional_path, check_path
from pipeline.core.locations import Location
from pipeline.results.report.write import REPORT_NAME, TEXT_OPTIONS, write_report
from pipeline.runs.finished_run import FinishedRun
from pipeline.storage.publish import publish_file


@dataclass(frozen=True)
class Options:
    run: Location = setting(check_path, Path("outputs/latest"), "the run's folder")
    output: Location | None = setting(
        check_optional_path, None, "a new file; RUN/report.html unless given, made anew each time"
    )
    thumbnails: int = setting(
        check_integer(0),
        2000,
        "most thumbnails to make, failed and uncertain images first; 7 KB each",
    )


def run_command(options: Options) -> str:
    """Write the page and return the command's output text."""
    run = FinishedRun.open(options.run)
    target = (options.output or run.path / REPORT_NAME).absolute()
    with (
        publish_file(target, replace=options.output is None) as stage,
        stage.open("w", **TEXT_OPTIONS) as file,
    ):
        shown = write_report(run, file, target.parent, options.thumbnails, from_inputs=True)
        size = file.tell() / 1e6
    return f"{target}: {shown:,} of {run.plan.n_images:,} images in the gallery, {size:.1f} MB."
