"""A sweep runs its combinations in this process, or in those of one of Hydra's launchers."""

from itertools import count
from pathlib import Path

import pytest

from pipeline.config.sweep import run_sweep
from pipeline.config.sweep_outcomes import RunResult, load_outcomes, save_outcome
from pipeline.core.errors import ConfigError, OutOfSpace, PipelineError

OUTCOMES = [
    ({}, None, None),
    ({"min_score": "0.3", "input": "a 'b'"}, RunResult("Complete\n", 2, Path("/out/a run")), None),
    ({"dry_run": "true"}, RunResult("a plan", 0, None), None),
    ({"min_score": "7"}, None, ConfigError("min_score=7: expected less")),
    ({}, None, OutOfSpace("full")),
    ({}, None, PipelineError("else")),
]


def test_outcomes_are_loaded_in_the_order_of_the_combinations(tmp_path: Path) -> None:
    folder = tmp_path / ".hydra" / "outcomes"
    for number, outcome in reversed(list(enumerate(OUTCOMES))):
        save_outcome(folder, number, outcome)
    found = load_outcomes(folder)
    assert [item[:2] for item in found] == [item[:2] for item in OUTCOMES]
    assert [(type(item[2]), str(item[2])) for item in found] == [
        (type(item[2]), str(item[2])) for item in OUTCOMES
    ]
    assert not folder.exists() and load_outcomes(folder) == []


def check_sweep(output: Path, launcher: str) -> None:
    words = ["model=codes", "min_score=0.3,7,0.5", f"output={output}", f"hydra/launcher={launcher}"]
    jobs = run_sweep(
        words,
        lambda settings: RunResult(f"least {settings.min_score}", 1, Path("there")),
        report_error=lambda error: None,
    )
    assert [job.settings["min_score"] for job in jobs] == ["0.3", "7", "0.5"]
    assert [job.result.text if job.result else None for job in jobs] == [
        "least 0.3",
        None,
        "least 0.5",
    ]
    assert isinstance(jobs[1].error, ConfigError) and jobs[0].run == Path("there")
    assert not list((output / ".hydra").glob("outcomes-*"))


@pytest.mark.parametrize("in_other_processes", [False, True])
def test_a_sweep(in_other_processes: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if in_other_processes:  # each job seems to run in a process of its own
        numbers = count()
        monkeypatch.setattr(
            "pipeline.config.sweep._identify_process", lambda: ("here", next(numbers))
        )
    check_sweep(tmp_path, "basic")


@pytest.mark.faults
def test_a_sweep_by_hydras_submitit_launcher(tmp_path: Path) -> None:
    """The local variant starts processes as Slurm does."""
    check_sweep(tmp_path, "submitit_local")
