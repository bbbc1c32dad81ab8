"""A runner that crashes, is killed or hangs is replaced, and only the input at fault is lost."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from tests.helpers.paths import REPOSITORY
from tests.helpers.pictures import picture
from tests.helpers.runs import read

pytestmark = pytest.mark.long

Watched = Callable[..., "subprocess.Popen[str]"]


def harmful(folder: Path, fault: str, name: str = "05a.jpg") -> None:
    picture(160, 120, seed=99).save(folder / name, comment=f"fault={fault}".encode())


@pytest.fixture
def watched(tmp_path: Path, photos: Path) -> Watched:
    """Return a function that starts the supervised program on the photos."""

    def start(*overrides: str, **environment: str) -> "subprocess.Popen[str]":
        command = [
            sys.executable,
            "-m",
            "tests.faults.watched",
            "run",
            "model=codes",
            f"input={photos}",
            "batch_size=4",
        ]
        command += ["shard_size=4", "overlays=false", f"output={tmp_path / 'out'}", *overrides]
        own = (
            os.environ
            | {"FAULT_ONCE": str(tmp_path / "once"), "PYTHONPATH": str(REPOSITORY)}
            | environment
        )
        return subprocess.Popen(
            command,
            cwd=REPOSITORY,
            env=own,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


def rows(tmp_path: Path, kind: str = "images") -> pa.Table:
    return read((tmp_path / "out" / "latest").resolve(), kind)


def runner_of(process: "subprocess.Popen[str]", then: Callable[[], bool] = lambda: True) -> int:
    """Wait until the runner exists and `then` holds; return the runner's process id."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    until = time.monotonic() + 60
    while time.monotonic() < until:
        found = children.read_text().split()
        if found and then():
            return int(found[0])
        time.sleep(0.01)
    raise AssertionError(process.communicate())


@pytest.mark.parametrize("fault", ["segv", pytest.param("kill", marks=pytest.mark.faults)])
def test_only_the_culprit_is_lost(
    fault: str, watched: Watched, photos: Path, tmp_path: Path
) -> None:
    harmful(photos, fault)
    process = watched()
    said = process.communicate(timeout=120)
    assert process.returncode == 5, said
    found = {row["key"]: row for row in rows(tmp_path).to_pylist()}
    assert [key for key, row in found.items() if row["status"] != "ok"] == ["05a.jpg"] and len(
        found
    ) == 13
    culprit = found["05a.jpg"]
    assert (
        culprit["status"] == "crashed"
        and f"died of SIG{fault.upper()} in two tries" in culprit["error"]
    )
    assert said[1].count("Starting another") == 2
    again = watched()
    said = again.communicate(timeout=60)
    assert (
        again.returncode == 5 and "Starting" not in said[1] and "nothing was left to do" in said[0]
    )


@pytest.mark.faults
def test_a_crash_that_does_not_repeat_costs_nothing(
    watched: Watched, photos: Path, tmp_path: Path
) -> None:
    process = watched()
    process.communicate(timeout=60)
    expected = {name: rows(tmp_path, name) for name in ("images", "predictions")}
    harmful(photos, "once_segv", "99.jpg")
    process = watched()
    said = process.communicate(timeout=120)
    assert process.returncode == 0 and said[1].count("Starting another") == 1, said
    assert set(rows(tmp_path)["status"].to_pylist()) == {"ok"}
    for name, table in expected.items():
        assert rows(tmp_path, name).slice(0, len(table)).equals(table)


@pytest.mark.faults
def test_an_input_that_hangs_is_given_up(watched: Watched, photos: Path, tmp_path: Path) -> None:
    harmful(photos, "hang")
    process = watched("timeout=6")
    said = process.communicate(timeout=180)
    assert process.returncode == 5, said
    bad = [
        (row["key"], row["status"]) for row in rows(tmp_path).to_pylist() if row["status"] != "ok"
    ]
    assert bad == [("05a.jpg", "timeout")]


@pytest.mark.faults
def test_a_runner_that_never_gets_anywhere_is_not_started_for_ever(
    watched: Watched, tmp_path: Path
) -> None:
    process = watched(FAULT_AT_LOAD="segv")
    said = process.communicate(timeout=120)
    assert process.returncode == 1 and "died of SIGSEGV, for the 3rd time" in said[1]
    assert said[1].count("Starting another") == 2


@pytest.mark.long
@pytest.mark.parametrize(
    ("fault", "sent", "code"),
    [
        ("slow", signal.SIGINT, 130),
        pytest.param("hang", signal.SIGTERM, 143, marks=pytest.mark.faults),
    ],
)
def test_a_signal_ends_it_in_time_with_its_own_code(
    fault: str, sent: int, code: int, watched: Watched, photos: Path, tmp_path: Path
) -> None:
    harmful(photos, f"once_{fault}")
    process = watched("timeout=600", GRACE_S="4")
    runner_of(process, (tmp_path / "once").exists)
    process.send_signal(sent)
    said = process.communicate(timeout=30)
    assert process.returncode == code, said
    again = watched()
    said = again.communicate(timeout=60)
    assert again.returncode == 0 and set(rows(tmp_path)["status"].to_pylist()) == {"ok"}, said


def test_a_runner_ends_when_nobody_watches_any_more(
    watched: Watched, photos: Path, tmp_path: Path
) -> None:
    harmful(photos, "once_hang")
    process = watched("timeout=600")
    runner = runner_of(process, (tmp_path / "once").exists)
    process.kill()
    process.communicate(timeout=30)
    again = watched()
    said = again.communicate(timeout=120)
    assert again.returncode == 0, (said, runner)
    assert set(rows(tmp_path)["status"].to_pylist()) == {"ok"}


@pytest.mark.faults
def test_a_stopped_runner_is_replaced(watched: Watched, photos: Path, tmp_path: Path) -> None:
    harmful(photos, "once_hang")
    process = watched("timeout=6")
    os.kill(runner_of(process, (tmp_path / "once").exists), signal.SIGSTOP)
    said = process.communicate(timeout=120)
    assert process.returncode == 0 and "longer than timeout=" in said[1]
    assert set(rows(tmp_path)["status"].to_pylist()) == {"ok"}
