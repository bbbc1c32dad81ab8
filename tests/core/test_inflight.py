"""What a run's threads have in hand can be read from outside."""

import time
from contextlib import ExitStack
from threading import Barrier, Thread

import pytest

from pipeline.core.inflight import TABLE_VARIABLE, InFlightTable, WorkerDeath


def test_another_process_sees_what_is_in_hand_and_what_is_overdue() -> None:
    with InFlightTable.create_shared() as (watcher, path):
        runner = InFlightTable(path)
        assert watcher.read_image_ids() == () and watcher.find_longest_running() == (0, 0.0)
        with runner.track([7], 1000), runner.track([8, 7, 9], 0):
            assert set(watcher.read_image_ids()) == {7, 8, 9}
            assert watcher.read_image_ids(overdue_at=time.monotonic() + 1) == (8, 7, 9)
            assert watcher.find_longest_running()[0] == 1
        assert watcher.read_image_ids() == ()


def test_an_exception_leaves_nothing_in_hand() -> None:
    board = InFlightTable()
    with pytest.raises(ValueError, match="no"), board.track([1], 9):
        raise ValueError("no")
    assert board.read_image_ids() == ()


def test_threads_have_slots_of_their_own_and_give_them_back() -> None:
    board, together, seen = InFlightTable(), Barrier(33), []

    def work(number: int) -> None:
        with board.track([number], 9):
            together.wait()
            together.wait()

    for _ in range(10):  # more often than there are slots
        threads = [Thread(target=work, args=(number,)) for number in range(32)]
        for thread in threads:
            thread.start()
        together.wait()
        seen.append(set(board.read_image_ids()))
        together.wait()
        for thread in threads:
            thread.join()
    assert seen == [set(range(32))] * 10 and board.read_image_ids() == ()


def test_more_inputs_than_a_slot_has_room_for() -> None:
    board = InFlightTable()
    with board.track(range(5000), 9):  # type: ignore[arg-type]
        assert len(board.read_image_ids()) == 1021


def test_more_threads_than_slots_work_all_the_same() -> None:
    board = InFlightTable()
    with ExitStack() as stack:
        for number in range(300):
            stack.enter_context(board.track([number], 9))
        assert len(board.read_image_ids()) == 256
    assert board.read_image_ids() == () and len(board._free) == 256


def test_a_death_is_told_once_and_forgets_what_was_in_hand() -> None:
    with InFlightTable.create_shared() as (watcher, path):
        dead = InFlightTable(path)
        dead.track([5, 6], 9).__enter__()
        dead.start_run("detect-\udcff")
        death = WorkerDeath(
            "crashed", "The runner died of SIGSEGV", watcher.read_image_ids(), watcher.run
        )
        watcher.report_death(death)
        runner = InFlightTable(path)
        assert runner.read_image_ids() == () and runner.start_run("another run of a sweep") is None
        assert (
            runner.start_run("detect-\udcff") == death and runner.start_run("detect-\udcff") is None
        )


def test_a_death_with_very_many_inputs() -> None:
    with InFlightTable.create_shared() as (watcher, path):
        watcher.report_death(WorkerDeath("crashed", "died", tuple(range(10**6, 10**6 + 50_000))))
        told = InFlightTable(path).start_run("")
        assert told is not None and told.image_ids == tuple(range(10**6, 10**6 + 2000))


def test_what_was_reached_is_counted() -> None:
    with InFlightTable.create_shared() as (watcher, path):
        runner = InFlightTable(path)
        runner.count_progress()
        runner.count_progress()
        assert watcher.progress == 2


def test_a_process_that_is_not_watched_has_one_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TABLE_VARIABLE, raising=False)
    assert InFlightTable.attach() is InFlightTable.attach()
    with InFlightTable.create_shared() as (watcher, path):
        monkeypatch.setenv(TABLE_VARIABLE, str(path))
        with InFlightTable.attach().track([4], 9):
            assert watcher.read_image_ids() == (4,)
