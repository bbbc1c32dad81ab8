"""Runs in array jobs of a real Slurm, disturbed as users and clusters disturb them.

`make test-slurm` installs Slurm and runs these tests. tests/runs/executors/test_slurm.py tests the
submitted script without Slurm.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.results.commands.verify import verify_run
from pipeline.run import run
from tests.contract.test_contract import parts_of
from tests.engines.processes import wait_until
from tests.engines.slow_commits import write_slow_commits
from tests.engines.slurm_cluster import SlurmCluster, run_command, running_cluster
from tests.helpers.paths import REPOSITORY
from tests.helpers.runs import read, settings_for

pytestmark = pytest.mark.slurm

COMMON = ("model=codes", "overlays=false", "shard_size=2", "log_level=error")
N_SHARDS = 6  # of the twelve sample images


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmCluster]:
    with running_cluster(tmp_path_factory.mktemp("slurm")) as started:
        yield started


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return the SHA-256 of the parts of a run in one process."""
    output = tmp_path_factory.mktemp("expected")
    run(settings_for(*COMMON, f"output={output}"))
    return parts_of((output / "latest").resolve())


class Submitter:
    """Submits one run again and again, as a user does."""

    def __init__(self, output: Path, *words: str, commit_seconds: float = 0) -> None:
        self.output = output
        self.words = [*COMMON, "executor=slurm", "executor.cpus_per_task=1", f"output={output}"]
        self.words += words
        if commit_seconds:
            slow = write_slow_commits(output.with_name("slow"), commit_seconds)
            self.words.append(f"executor.setup=['export PYTHONPATH={slow}']")

    def start(self) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "pipeline", "run", *self.words]
        return subprocess.Popen(
            command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def submit(self) -> str:
        """Submit the run; return the number of the job."""
        process = self.start()
        said, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
        return find_job_id(said)

    def run_folder(self) -> Path:
        return next(path for path in self.output.glob("detect-codes-*"))

    def n_committed(self) -> int:
        return len(list(self.output.glob("detect-codes-*/_committed/*.json")))

    def check(self, expected: dict[str, str]) -> None:
        """Check that the run is complete, with the expected bytes and each input once."""
        folder = self.run_folder()
        assert parts_of(folder) == expected
        ids = read(folder, "images")["image_id"].to_pylist()
        assert ids == list(range(len(ids)))
        assert "one row each" in verify_run(folder)
        assert (folder / "report.html").is_file()

    def read_logs(self) -> str:
        logs = sorted((self.output / ".slurm").glob("*/*.err"))
        return "\n".join(f"{path.name}:\n{path.read_text()}" for path in logs)


def find_job_id(said: str) -> str:
    found = re.search(r"Submitted: job (\d+),", said)
    assert found, said
    return found[1]


def test_two_elements_write_the_bytes_of_one_process(
    cluster: SlurmCluster, expected: dict[str, str], tmp_path: Path
) -> None:
    submitter = Submitter(tmp_path / "out", "executor.nodes=2")
    cluster.wait_for_states(submitter.submit(), {"COMPLETED"})
    submitter.check(expected)
    process = submitter.start()
    assert process.communicate(timeout=120)[0].startswith("Complete: 12 images")


def test_an_element_that_is_queued_again_resumes(
    cluster: SlurmCluster, expected: dict[str, str], tmp_path: Path
) -> None:
    submitter = Submitter(tmp_path / "out", "executor.nodes=2", commit_seconds=2)
    job_id = submitter.submit()
    wait_until(lambda: submitter.n_committed() >= 2, 120)
    cluster.requeue(f"{job_id}_0")
    assert submitter.n_committed() < N_SHARDS
    cluster.wait_for_states(job_id, {"COMPLETED"})
    assert "Restarts=1" in run_command("scontrol", "show", "job", f"{job_id}_0")
    submitter.check(expected)


def test_a_cancelled_job_keeps_what_it_committed_and_the_same_command_resumes(
    cluster: SlurmCluster, expected: dict[str, str], tmp_path: Path
) -> None:
    submitter = Submitter(tmp_path / "out", "executor.nodes=2", commit_seconds=2)
    job_id = submitter.submit()
    wait_until(lambda: submitter.n_committed() >= 2, 120)
    cluster.cancel(job_id)
    cluster.wait_for_states(job_id, {"CANCELLED"})
    n_kept = submitter.n_committed()
    assert 2 <= n_kept < N_SHARDS

    process = submitter.start()
    said = process.communicate(timeout=120)[0]
    assert f"2 elements for {N_SHARDS - n_kept} shards" in said
    cluster.wait_for_states(find_job_id(said), {"COMPLETED"})
    submitter.check(expected)


def test_an_element_whose_time_is_over_is_queued_again_and_resumes(
    cluster: SlurmCluster, expected: dict[str, str], tmp_path: Path
) -> None:
    submitter = Submitter(
        tmp_path / "out", "executor.nodes=1", "executor.minutes=1", commit_seconds=12
    )
    job_id = submitter.submit()
    cluster.wait_for_states(job_id, {"COMPLETED"}, seconds=400)
    assert "Restarts=0" not in run_command("scontrol", "show", "job", job_id)
    submitter.check(expected)


def test_of_two_submissions_at_once_one_element_of_each_place_computes(
    cluster: SlurmCluster, expected: dict[str, str], tmp_path: Path
) -> None:
    submitter = Submitter(tmp_path / "out", "executor.nodes=2", commit_seconds=1)
    processes = [submitter.start() for _ in range(2)]
    said = [process.communicate(timeout=120) for process in processes]
    states = []
    for process, (output, errors) in zip(processes, said, strict=True):
        assert process.returncode in (0, 3) and "Traceback" not in errors
        if process.returncode == 3:  # the other was still planning
            assert "is being written by another run" in errors
        elif "Submitted" in output:
            job_id = find_job_id(output)
            cluster.wait_for_states(job_id, {"COMPLETED", "FAILED"})
            states.append(cluster.job_states(job_id))
    for place in ("0", "1"):
        assert "COMPLETED" in [state[place] for state in states]
    logs = submitter.read_logs()
    assert "Traceback" not in logs
    assert ("FAILED" in str(states)) == ("is being written by another run (" in logs)
    submitter.check(expected)
