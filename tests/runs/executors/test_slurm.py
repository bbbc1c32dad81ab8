"""The submitted array job, with an `sbatch` that only records it.

These tests have no Slurm. tests/contract runs the elements as processes.
"""

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.config.groups.compute import ShardSettings
from pipeline.config.settings import Settings
from pipeline.core.errors import ConfigError
from pipeline.run import run
from pipeline.runs.executors.slurm import ArrayElement
from tests.helpers.runs import settings_for

COMMON = ("model=codes", "executor=slurm", "shard_size=5", "log_level=error")
SBATCH = """#!/bin/sh
cp "$1" {folder}/script
echo "Submitted batch job 4711"
"""


@pytest.fixture
def sbatch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a fake `sbatch` on PATH that stores the submitted script. Return its folder."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in {"sbatch": SBATCH.format(folder=folder), "srun": "#!/bin/sh\n"}.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


def test_the_script_is_shown_and_nothing_written(tmp_path: Path) -> None:
    options = [
        "executor.nodes=8",
        "executor.partition=gpu",
        "executor.minutes=90",
        "executor.setup=[module load cuda]",
    ]
    options += [
        "executor.gpus_per_node=1",
        "executor.cpus_per_task=16",
        "executor.mem_gb=64",
        "executor.account=me",
    ]
    said = run(settings_for(*COMMON, *options, f"output={tmp_path}", "dry_run=true")).text
    for line in (
        "array=0-7%8",
        "partition=gpu",
        "time=90",
        "gpus-per-node=1",
        "cpus-per-task=16",
        "mem=64GB",
        "account=me",
    ):
        assert f"\n#SBATCH --{line}\n" in said
    assert "\nmodule load cuda\n" in said and "srun" in said and "submitit.core._submit" in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("minutes", "warning"), [(1, 15), (2, 30), (6, 90), (600, 90)])
def test_an_element_is_not_warned_of_its_end_when_it_starts(
    minutes: int, warning: int, tmp_path: Path
) -> None:
    words = [*COMMON, f"executor.minutes={minutes}", f"output={tmp_path}", "dry_run=true"]
    assert f"#SBATCH --signal=USR2@{warning}\n" in run(settings_for(*words)).text


def test_what_is_submitted_is_what_was_shown_and_one_pickle_for_each_element(
    sbatch: Path, tmp_path: Path
) -> None:
    settings = [*COMMON, "executor.nodes=3", "classes=[barcode]", f"output={tmp_path / 'out'}"]
    shown = run(settings_for(*settings, "dry_run=true")).text
    said = run(settings_for(*settings)).text
    script = (sbatch / "script").read_text()
    assert script.strip() == shown[shown.index("#!/bin/bash") :].strip()
    assert "Submitted: job 4711, 3 elements for 3 shards" in said and "scancel 4711" in said
    (folder,) = (tmp_path / "out" / ".slurm").iterdir()
    for index in range(3):
        delayed = pickle.loads((folder / f"4711_{index}_submitted.pkl").read_bytes())  # noqa: S301 - written here
        element = Settings.from_plain(json.loads(delayed.function.settings))
        assert element.shard == ShardSettings(index=index, count=3) and element.changed == "trust"
        assert element.classes == ("barcode",) and element.components["executor"][
            "_target_"
        ].endswith(".Local")
        assert delayed.function.checkpoint().function == delayed.function


def test_with_nothing_left_to_do_nothing_is_submitted(
    sbatch: Path, annotate: Callable[..., Path], tmp_path: Path
) -> None:
    annotate("model=codes", "shard_size=5")
    said = run(settings_for(*COMMON, f"output={tmp_path / 'outputs'}")).text
    assert said.startswith("Complete: 12 images") and not (sbatch / "script").exists()


def test_a_machine_without_slurm_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match=r"nothing was submitted: .*srun"):
        run(settings_for(*COMMON, f"output={tmp_path}"))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("nodes=0", "executor.nodes=0: expected a whole number"),
        ("minutes=1h", "executor.minutes=1h"),
        ("cluster=sge", "expected slurm or local"),
        ("setup={a: b}", "executor.setup=.*expected a"),
    ],
)
def test_settings_that_cannot_be_are_refused(given: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=said):
        run(settings_for(*COMMON, f"executor.{given}", f"output={tmp_path}"))


def test_an_element_that_is_not_complete_has_failed() -> None:
    """Run in another process, because the element installs signal handlers."""
    program = "from pipeline.runs.executors.slurm import ArrayElement; "
    program += f"ArrayElement({json.dumps('{}')})()"
    done = subprocess.run(
        [sys.executable, "-c", program], check=False, capture_output=True, text=True
    )
    assert done.returncode == 1 and "The element ended with exit code 1" in done.stderr
    assert "line 1, in <module>" not in done.stderr, "the traceback is not of the element"


def test_an_element_is_small() -> None:
    assert len(pickle.dumps(ArrayElement("{}"))) < 300
