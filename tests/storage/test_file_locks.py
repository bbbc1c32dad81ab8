"""Who may write to a run folder at the same time, and who is told about whom."""

import fcntl
import os
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest

from pipeline.core.errors import RunLocked
from pipeline.core.types import Writer
from pipeline.storage.file_locks import critical_section, lock_folder

DRIVER = Writer("ray-driver", patience_s=0.3)


def hand(number: int) -> Writer:
    return Writer(f"ray-{number}", "ray-*", 0.3)


def part(index: int, count: int) -> Writer:
    return Writer(f"{index}-of-{count}", f"*-of-{count}", 0.3)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / ".lock").touch()
    return tmp_path


def nothing(alone: bool) -> None:
    """To begin with."""


def test_a_part_of_one_is_the_whole() -> None:
    assert Writer.for_shards(0, 1) == Writer() and Writer.for_shards(3, 16) == Writer(
        "3-of-16", "*-of-16"
    )


@pytest.mark.parametrize(
    ("there", "comes", "admitted"),
    [
        ([], Writer(), True),
        ([Writer()], Writer(), False),
        ([Writer()], part(0, 2), False),
        ([Writer()], hand(0), False),
        ([part(0, 2)], Writer(), False),
        ([part(0, 2)], part(1, 2), True),
        ([part(0, 2)], part(0, 2), False),
        ([part(0, 3), part(1, 3)], part(1, 2), False),
        ([part(0, 2)], DRIVER, False),
        ([DRIVER], hand(0), True),
        ([DRIVER, hand(0)], hand(1), True),
        ([DRIVER, hand(0)], hand(0), False),
        ([hand(0)], DRIVER, False),
        ([DRIVER], DRIVER, False),
        ([DRIVER], part(0, 2), False),
        ([part(0, 2)], hand(0), False),
        ([Writer("planner-of-2")], part(0, 2), True),
        ([part(0, 2)], Writer("planner-of-2", patience_s=0.3), False),
    ],
)
def test_who_may_come_when_others_are_there(
    there: list[Writer], comes: Writer, admitted: bool, folder: Path
) -> None:
    begun: list[bool] = []
    with ExitStack() as stack:
        for writer in there:
            stack.enter_context(lock_folder(folder, writer, nothing))
        if admitted:
            stack.enter_context(lock_folder(folder, comes, begun.append))
            assert begun == [not there]
        else:
            with pytest.raises(
                RunLocked, match=rf"written by another run .*process {os.getpid()} on"
            ):
                stack.enter_context(lock_folder(folder, comes, begun.append))
            assert begun == []
    with lock_folder(folder, comes, begun.append):
        assert begun[-1] is True, "all are gone"


def test_who_is_refused_is_told_the_names_of_all_who_are_in_the_way(folder: Path) -> None:
    with lock_folder(folder, part(0, 3), nothing), lock_folder(folder, part(2, 3), nothing):
        for comes in (Writer(), part(0, 2)):
            with (
                pytest.raises(RunLocked, match=r"\(0-of-3: process .*; 2-of-3: process "),
                lock_folder(folder, comes, nothing),
            ):
                pytest.fail("it was admitted")


def test_one_with_patience_comes_when_the_other_has_gone(folder: Path) -> None:
    old = ExitStack()
    old.enter_context(lock_folder(folder, hand(0), nothing))
    threading.Timer(0.3, old.close).start()
    begun: list[bool] = []
    with lock_folder(folder, Writer("ray-driver", patience_s=30), begun.append):
        assert begun == [True]


def test_nobody_begins_while_another_plans_and_nobody_is_refused_for_it(folder: Path) -> None:
    (folder / ".locks").mkdir()
    begun = threading.Event()

    def come() -> None:
        with lock_folder(folder, part(1, 2), nothing):
            begun.set()

    with critical_section(folder):
        thread = threading.Thread(target=come)
        thread.start()
        assert not begun.wait(0.5)
    thread.join(10)
    assert begun.is_set()


def test_a_lock_is_free_when_its_holder_has_ended_in_whatever_way(folder: Path) -> None:
    (folder / ".locks").mkdir()
    child = os.fork()
    if not child:
        with (folder / ".locks" / "0-of-2").open("a+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            os._exit(9)
    os.waitpid(child, 0)
    with lock_folder(folder, part(0, 2), nothing):
        assert str(os.getpid()) in (folder / ".locks" / "0-of-2").read_text()
