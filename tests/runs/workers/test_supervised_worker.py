"""A supervised worker process.

Its shards go to the next process after a crash, and its last messages are read. The workers in
these tests are a few lines each and have no model.
"""

import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipeline.runs.workers.supervised_worker import SupervisedWorker

BEGIN = """
import json, os, sys, time
order = json.loads(sys.stdin.readline())
def say(**what): print(json.dumps(what), flush=True)
def done(shard): say(shard=shard, images=10 + shard, errors=0)
def first_time(): return not os.path.exists(order["once"]) and open(order["once"], "w")
"""


@contextmanager
def worker(program: str, once: Path) -> Iterator[SupervisedWorker]:
    order = {"folder": str(once.parent), "once": str(once)}
    started = SupervisedWorker(order, {"OWN": "7"}, (sys.executable, "-c", BEGIN + program))
    try:
        yield started
    finally:
        started.close()


def test_it_is_ready_then_does_what_it_is_given_side_by_side(tmp_path: Path) -> None:
    program = """
say(message=f"WARNING: {os.environ['OWN']} in {os.path.basename(os.getcwd())}"); say(ready=True)
held = [int(sys.stdin.readline()) for _ in range(2)]
for shard in reversed(held): done(shard)
time.sleep(60)
"""
    replies = {}
    with worker(program, tmp_path / "once") as process:
        assert process.ready() == {"messages": [f"WARNING: 7 in {tmp_path.name}"]}
        threads = [
            threading.Thread(target=lambda i=i: replies.update({i: process.do(i)})) for i in (3, 4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    assert replies == {i: {"messages": [], "images": 10 + i, "errors": 0} for i in (3, 4)}


def test_what_one_that_was_killed_had_in_hand_is_given_to_the_next(tmp_path: Path) -> None:
    program = """
if first_time(): sys.stdin.readline(); os.kill(os.getpid(), 9)
say(ready=True)
for line in sys.stdin: done(int(line))
"""
    with worker(program, tmp_path / "once") as process:
        answer = process.do(5)
    assert answer["images"] == 15
    assert answer["messages"] == [
        "WARNING: The runner died of SIGKILL, with 0 inputs in hand. Starting another, which goes "
        "on."
    ]


@pytest.mark.parametrize(
    ("program", "failed", "code"),
    [
        ("say(failed='no weights'); sys.exit(2)", "no weights", 2),
        ("sys.exit(3)", "ended with exit code 3", 3),
        (
            "os.kill(os.getpid(), 11)",
            "died of SIGSEGV, for the 3rd time without getting any further",
            1,
        ),
    ],
)
def test_one_that_fails_or_never_gets_anywhere_is_not_started_for_ever(
    program: str, failed: str, code: int, tmp_path: Path
) -> None:
    with worker(program, tmp_path / "once") as process:
        for answer in (process.ready(), process.do(0), process.do(1)):
            assert failed in answer["failed"] and answer["code"] == code


def test_it_ends_when_it_is_told_to(tmp_path: Path) -> None:
    program = f"""
import signal
def end(number, frame): open({str(tmp_path / "ended")!r}, "w"); sys.exit(143)
signal.signal(signal.SIGTERM, end); say(ready=True); time.sleep(60)
"""
    with worker(program, tmp_path / "once") as process:
        assert process.ready() == {"messages": []}
    assert (tmp_path / "ended").exists() and process.ready()["messages"] == []


def test_one_that_cannot_be_started_says_why(tmp_path: Path) -> None:
    process = SupervisedWorker({"folder": "/gone"}, {}, (str(tmp_path / "no-program"),))
    assert "no worker could be started: " in process.ready()["failed"]
    process.close()


def test_the_order_is_plain_text() -> None:
    with pytest.raises(TypeError):
        json.dumps({"folder": Path()})
