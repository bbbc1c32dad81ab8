"""A run that is killed at random moments resumes to the bytes of an undisturbed run."""

import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.paths import REPOSITORY, SAMPLES

pytestmark = pytest.mark.long


@pytest.mark.parametrize("kills", [6, pytest.param(200, marks=pytest.mark.faults)])
def test_any_number_of_sigkills(kills: int, tmp_path: Path) -> None:
    for i in range(1 if kills < 10 else 5):
        shutil.copytree(
            SAMPLES, tmp_path / "images" / str(i), ignore=shutil.ignore_patterns("*.json")
        )
    seed = os.environ.get("KILL_SEED", str(random.randrange(10**6)))
    command = [
        sys.executable,
        "-m",
        "tests.faults.sigkills",
        str(kills),
        seed,
        str(tmp_path / "images"),
        str(tmp_path),
    ]
    done = subprocess.run(command, check=False, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    runs = [json.loads(line) for line in done.stdout.splitlines()]
    assert sum(run["hits"] for run in runs) >= kills, f"KILL_SEED={seed}"
    assert all(run["code"] == 0 and run["differing"] == [] for run in runs), (
        f"KILL_SEED={seed}",
        runs,
    )
