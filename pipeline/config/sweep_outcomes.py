"""Outcomes of a sweep's jobs that ran in other processes, perhaps on other machines.

Each outcome is one small file in a folder that all of these processes can see.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.core.errors import ConfigError, OutOfSpace, PipelineError, RunLocked
from pipeline.core.locations import Location, parse_location


@dataclass(frozen=True)
class RunResult:
    """Result of a run: its summary and its folder."""

    text: str  # the summary to print
    bad_images: int = 0  # images that are not usable
    run: Location | None = None  # the run folder; None for a dry run


_ERRORS = {cls.exit_code: cls for cls in (PipelineError, ConfigError, RunLocked, OutOfSpace)}

# The settings as typed, the result, and the error. One of the last two is None.
Outcome = tuple[dict[str, str], RunResult | None, PipelineError | None]


def save_outcome(folder: Path, number: int, outcome: Outcome) -> None:
    """Write the outcome of job `number`. The process that ran the job calls this."""
    settings, result, error = outcome
    record: dict[str, Any] = {"settings": settings}

    if result:
        run = str(result.run) if result.run else None
        record |= {"text": result.text, "bad_images": result.bad_images, "run": run}
    if error:
        record |= {"error": str(error), "exit_code": error.exit_code}

    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{number:06d}.json").write_text(json.dumps(record))


def load_outcomes(folder: Path) -> list[Outcome]:
    """Read all outcomes in the order of the jobs, and remove the folder."""
    outcomes = [_read_outcome(path) for path in sorted(folder.glob("*.json"))]
    shutil.rmtree(folder, ignore_errors=True)
    return outcomes


def _read_outcome(path: Path) -> Outcome:
    record = json.loads(path.read_text())
    result = error = None

    if "text" in record:
        run = parse_location(record["run"]) if record["run"] else None
        result = RunResult(record["text"], record["bad_images"], run)
    if "error" in record:
        error = _ERRORS.get(record["exit_code"], PipelineError)(record["error"])

    return record["settings"], result, error
