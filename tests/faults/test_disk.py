"""A run resumes to the bytes of an undisturbed run, wherever the disk or the machine failed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.everywhere import DIED, GAVE_UP
from tests.helpers.paths import REPOSITORY
from tests.helpers.pictures import picture

FIRST_TRY = {"exit": DIED, "EIO": GAVE_UP, "ENOSPC": GAVE_UP}


@pytest.mark.faults
@pytest.mark.parametrize(("kind", "every"), [("exit", 1), ("EIO", 1), ("ENOSPC", 5)])
def test_at_every_operation_once_and_again(kind: str, every: int, tmp_path: Path) -> None:
    assert len(disturb(kind, tmp_path, every)) > 40 // every


@pytest.mark.long
@pytest.mark.parametrize("kind", ["exit", "EIO"])
def test_at_some_operations(kind: str, tmp_path: Path) -> None:
    assert len(disturb(kind, tmp_path, 23)) >= 3


def disturb(kind: str, tmp_path: Path, every: int) -> list[dict]:
    for number in range(6):
        path = tmp_path / "images" / "ab"[number % 2] / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(96, 64, seed=number).save(path)
    command = [
        sys.executable,
        "-m",
        "tests.faults.everywhere",
        kind,
        str(tmp_path / "images"),
        str(tmp_path),
        str(every),
    ]
    done = subprocess.run(command, check=False, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    outcomes = [json.loads(line) for line in done.stdout.splitlines()]
    for outcome in outcomes[:-1]:
        # A run goes on when the failed operation is not essential, e.g. on the link `latest`.
        assert outcome["codes"][0] in (FIRST_TRY[kind], 0), outcome
        assert outcome["codes"][-1] == 0 and outcome["differing"] == [], outcome
    assert outcomes[-1]["codes"] == [0, 0, 0] and outcomes[-1]["differing"] == []
    return outcomes
