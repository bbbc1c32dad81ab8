"""What became of a sweep's combinations that one of Hydra's launchers ran in other processes, maybe on other machines: a
small file each, in a folder that all of them see."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.core.errors import ConfigError, OutOfSpace, PipelineError, RunLocked
from pipeline.core.locations import Location, parse_location


@dataclass(frozen=True)
class RunResult:
    """How a run ended, for a person, the number of its images that are not usable, and its folder."""

    text: str
    bad_images: int = 0
    run: Location | None = None  # None: a dry run


_ERRORS = {cls.exit_code: cls for cls in (PipelineError, ConfigError, RunLocked, OutOfSpace)}
Outcome = tuple[
    dict[str, str], RunResult | None, PipelineError | None
]  # settings as given, how it ended, why it was refused


def save_outcome(folder: Path, number: int, outcome: Outcome) -> None:
    """By the process that computed it."""
    settings, ended, refused = outcome
    said: dict[str, Any] = {"settings": settings}
    if ended:
        said |= {
            "text": ended.text,
            "bad_images": ended.bad_images,
            "run": str(ended.run) if ended.run else None,
        }
    if refused:
        said |= {"refused": str(refused), "exit_code": refused.exit_code}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{number:06d}.json").write_text(json.dumps(said))


def load_outcomes(folder: Path) -> list[Outcome]:
    """In the order of the combinations, by the process that waited for them; the folder is removed."""
    outcomes: list[Outcome] = []
    for path in sorted(folder.glob("*.json")):
        said = json.loads(path.read_text())
        refused = (
            _ERRORS.get(said["exit_code"], PipelineError)(said["refused"])
            if "refused" in said
            else None
        )
        run = parse_location(said["run"]) if said.get("run") else None
        ended = RunResult(said["text"], said["bad_images"], run) if "text" in said else None
        outcomes.append((said["settings"], ended, refused))
    shutil.rmtree(folder, ignore_errors=True)
    return outcomes
