"""Several writers of one run are killed: the run resumes to the bytes of an undisturbed run."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from pipeline.runs.workers.supervised_worker import SupervisedWorker
from tests.contract.test_contract import parts_of
from tests.faults.everywhere import child, in_child
from tests.helpers.paths import REPOSITORY, SAMPLES
from tests.helpers.pictures import picture
from tests.helpers.runs import read, settings_for

pytestmark = pytest.mark.long

COMMON = ("model=codes", "overlays=false", "log_level=error")


def participant(output: Path, index: int, images: Path = SAMPLES) -> None:
    from pipeline.run import run

    shard = (f"shard.index={index}", "shard.count=2", "shard_size=3")
    run(settings_for(*COMMON, *shard, f"input={images}", f"output={output}"))


@pytest.mark.faults
def test_two_participants_killed_at_random_moments(
    annotate: Callable[..., Path], tmp_path: Path
) -> None:
    seed = os.environ.get("KILL_SEED", str(random.randrange(10**6)))
    program = (
        "import sys; from tests.faults.test_shared_runs import killed_again_and_again as k; "
        f"k({seed!r}, sys.argv[1])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "out")],
        check=False,
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, (f"KILL_SEED={seed}", done.stderr)
    expected = parts_of(annotate(*COMMON, "shard_size=3"))
    assert parts_of((tmp_path / "out" / "latest").resolve()) == expected


def killed_again_and_again(seed: str, output: str) -> None:
    """Kill one of two participants again and again.

    This must run in a process that has computed nothing, because OpenMP does not survive a fork.
    """
    moment = random.Random(seed)
    hits = 0
    while hits < 12:
        numbers = [child(lambda i=i: participant(Path(output), i)) for i in (0, 1)]  # type: ignore[misc]
        time.sleep(moment.uniform(0, 2.5))
        os.kill(numbers[hits % 2], signal.SIGKILL)
        codes = [os.waitstatus_to_exitcode(os.waitpid(number, 0)[1]) for number in numbers]
        assert codes[1 - hits % 2] == 0, codes
        hits += 1
        if codes[hits % 2 - 1] == 0:  # both had finished before the kill: begin another run
            shutil.rmtree(output)
    assert [in_child(lambda i=i: participant(Path(output), i)) for i in (0, 1)] == [0, 0]  # type: ignore[misc]


# --- a supervised worker, as in Ray's actors


def order(images: Path, output: Path, **own: Any) -> dict[str, Any]:
    """Freeze the plan of a run; return what a worker of this run is given."""
    from pipeline.core.types import Writer
    from pipeline.runs.components import build_components
    from pipeline.runs.session import RunSession

    settings = settings_for(
        *COMMON, f"input={images}", f"output={output}", "shard_size=4", "batch_size=4", "timeout=6"
    )
    work = RunSession.create(settings, build_components(settings), Writer("ray-driver"))
    with work.folder.lock(), work.folder.critical_section():
        work = work.freeze_plan()
    return {
        **work.make_order(),
        "writer": {"name": "ray-0", "allowed_peers": "ray-*", "patience_s": 5.0},
    }


@pytest.mark.parametrize(
    ("fault", "status"),
    [("segv", "crashed"), pytest.param("hang", "timeout", marks=pytest.mark.faults)],
)
def test_only_the_culprit_is_lost(fault: str, status: str, photos: Path, tmp_path: Path) -> None:
    picture(160, 120, seed=99).save(photos / "05a.jpg", comment=f"fault={fault}".encode())
    given = order(photos, tmp_path / "out")
    command = (sys.executable, "-m", "tests.faults.runner", "worker")
    worker = SupervisedWorker(given, {"PYTHONPATH": str(REPOSITORY)}, command)
    try:
        answers = [worker.do(shard_id) for shard_id in range(4)]
    finally:
        worker.close()
    assert [(answer["images"], answer["errors"]) for answer in answers] == [
        (4, 0),
        (4, 1),
        (4, 0),
        (1, 0),
    ], answers
    rows = {
        row["key"]: row["status"]
        for row in read(tmp_path / "out" / given["run"], "images").to_pylist()
    }
    assert {key: found for key, found in rows.items() if found != "ok"} == {
        "05a.jpg": status
    } and len(rows) == 13
    said = [text for answer in answers for text in answer["messages"]]
    assert sum("Starting another" in text for text in said) == 2
    (suspects,) = (tmp_path / "out" / given["run"]).glob("suspects*.json")
    assert (
        list(json.loads(suspects.read_text())["given_up"]) == ["6"]
        and suspects.name == "suspects-ray-0.json"
    )


def test_weights_that_are_not_there_are_told_and_not_asked_for_again(
    photos: Path, tmp_path: Path
) -> None:
    given = order(photos, tmp_path / "out")
    given["settings"] |= {"model": "ssd300_vgg16", "weights": str(tmp_path / "gone.safetensors")}
    worker = SupervisedWorker(given, {})
    assert worker.ready()["code"] == 2 and "gone.safetensors" in worker.ready()["failed"]
    worker.close()


# --- Ray itself

WORKER, DRIVER = "main()) worker", "main()) run"  # in their command lines


def ray_run(images: Path, output: Path) -> "subprocess.Popen[str]":
    own = [
        "executor=ray",
        "executor.workers=2",
        f"input={images}",
        f"output={output}",
        "shard_size=4",
    ]
    command = [sys.executable, "-m", "pipeline", "run", *COMMON, *own]
    return subprocess.Popen(
        command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def when(condition: Callable[[], Any], process: "subprocess.Popen[str]") -> Any:
    until = time.monotonic() + 180
    while time.monotonic() < until and process.poll() is None:
        if found := condition():
            return found
        time.sleep(0.02)
    raise AssertionError(process.communicate())


def below(process: "subprocess.Popen[str]", words: str) -> list[int]:
    """Return the descendants of a process whose command line has these words."""
    parents, lines = {}, {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(path.name)] = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            lines[int(path.name)] = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:  # the process has ended
            continue
    found, waiting = [], [process.pid]
    while waiting:
        parent = waiting.pop()
        children = [number for number, its in parents.items() if its == parent]
        waiting += children
        found += [number for number in children if words in lines.get(number, "")]
    return found


def listened_to(numbers: list[int]) -> list[str]:
    """Return the addresses (hexadecimal, as in /proc/net) at which these processes listen."""
    sockets = set()
    for number in numbers:
        for path in Path(f"/proc/{number}/fd").glob("*"):
            with suppress(OSError):
                sockets.add(str(path.readlink()).removeprefix("socket:[").removesuffix("]"))
    tables = (Path(f"/proc/net/{name}").read_text().splitlines()[1:] for name in ("tcp", "tcp6"))
    lines = [line.split() for table in tables for line in table]
    return [line[1].partition(":")[0] for line in lines if line[3] == "0A" and line[9] in sockets]


def kill(numbers: list[int]) -> None:
    for number in numbers:
        os.kill(number, signal.SIGKILL)


def markers(output: Path) -> int:
    return len(list(output.glob("detect-*/_committed/*.json")))


@pytest.mark.faults
def test_a_worker_an_actor_and_the_driver_are_killed(
    annotate: Callable[..., Path], tmp_path: Path
) -> None:
    images, output = tmp_path / "images", tmp_path / "out"
    copies(images, 10)
    expected = parts_of(annotate(*COMMON, f"input={images}", "shard_size=4"))
    process = ray_run(images, output)
    when(lambda: markers(output) >= 2, process)
    kill(below(process, WORKER)[:1])
    when(lambda: markers(output) >= 6, process)
    kill(below(process, "ray::RayActor")[:1])
    when(lambda: markers(output) >= 10, process)
    assert markers(output) < len(expected) // 2
    kill([process.pid, *below(process, DRIVER)])
    process.communicate(timeout=60)
    again = ray_run(images, output)
    said = again.communicate(timeout=300)
    assert again.returncode == 0, said
    run = (output / "latest").resolve()
    assert parts_of(run) == expected
    ids = read(run, "images")["image_id"].to_pylist()
    assert ids == list(range(len(ids)))


def copies(folder: Path, number: int) -> None:
    for i in range(number):
        shutil.copytree(SAMPLES, folder / str(i), ignore=shutil.ignore_patterns("*.json"))


@pytest.mark.faults
@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_driver_and_its_workers_in_order(
    sent: int, code: int, tmp_path: Path
) -> None:
    images, output = tmp_path / "images", tmp_path / "out"
    copies(images, 8)
    process = ray_run(images, output)
    when(lambda: markers(output) >= 2, process)
    workers = below(process, WORKER)
    listening = listened_to(below(process, ""))
    assert len(listening) > 2 and all(
        where.endswith(("0100007F", "01000000")) for where in listening
    ), listening
    process.send_signal(sent)
    said = process.communicate(timeout=40)
    assert process.returncode == code, said
    assert "Committed shards are kept" in said[1] and "Traceback" not in said[1]
    until = time.monotonic() + 15
    while (
        alive := [number for number in workers if Path(f"/proc/{number}").exists()]
    ) and time.monotonic() < until:
        time.sleep(0.1)
    assert workers and alive == []
