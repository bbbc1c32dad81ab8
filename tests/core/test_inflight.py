"""What a run's threads have in hand can be read from outside."""

import time
from contextlib import ExitStack
from threading import Barrier, Thread

import pytest

from pipeline.core.inflight import VARIABLE, InFlightTable, WorkerDeath


def test_another_process_sees_what_is_in_hand_and_what_is_overdue() -> None:
    with InFlightTable.created() as (watcher, path):
        runner = InFlightTable(path)
        assert watcher.in_hand() == () and watcher.longest() == (0, 0.0)
        with runner.working_on([7], 1000), runner.working_on([8, 7, 9], 0):
            assert set(watcher.in_hand()) == {7, 8, 9}
            assert watcher.in_hand(overdue_at=time.monotonic() + 1) == (8, 7, 9)
            assert watcher.longest()[0] == 1
        assert watcher.in_hand() == ()


def test_an_exception_leaves_nothing_in_hand() -> None:
    board = InFlightTable()
    with pytest.raises(ValueError, match="no"), board.working_on([1], 9):
        raise ValueError("no")
    assert board.in_hand() == ()


def test_threads_have_slots_of_their_own_and_give_them_back() -> None:
    board, together, seen = InFlightTable(), Barrier(33), []

    def work(number: int) -> None:
        with board.working_on([number], 9):
            together.wait()
            together.wait()

    for _ in range(10):  # more often than there are slots
        threads = [Thread(target=work, args=(number,)) for number in range(32)]
        for thread in threads:
            thread.start()
        together.wait()
        seen.append(set(board.in_hand()))
        together.wait()
        for thread in threads:
            thread.join()
    assert seen == [set(range(32))] * 10 and board.in_hand() == ()


def test_more_inputs_than_a_slot_has_room_for() -> None:
    board = InFlightTable()
    with board.working_on(range(5000), 9):  # type: ignore[arg-type]
        assert len(board.in_hand()) == 1021


def test_more_threads_than_slots_work_all_the_same() -> None:
    board = InFlightTable()
    with ExitStack() as stack:
        for number in range(300):
            stack.enter_context(board.working_on([number], 9))
        assert len(board.in_hand()) == 256
    assert board.in_hand() == () and len(board._free) == 256


def test_a_death_is_told_once_and_forgets_what_was_in_hand() -> None:
    with InFlightTable.created() as (watcher, path):
        dead = InFlightTable(path)
        dead.working_on([5, 6], 9).__enter__()
        dead.begin("detect-\udcff")
        death = WorkerDeath("crashed", "The runner died of SIGSEGV", watcher.in_hand(), watcher.run)
        watcher.report_death(death)
        runner = InFlightTable(path)
        assert runner.in_hand() == () and runner.begin("another run of a sweep") is None
        assert runner.begin("detect-\udcff") == death and runner.begin("detect-\udcff") is None


def test_a_death_with_very_many_inputs() -> None:
    with InFlightTable.created() as (watcher, path):
        watcher.report_death(WorkerDeath("crashed", "died", tuple(range(10**6, 10**6 + 50_000))))
        told = InFlightTable(path).begin("")
        assert told is not None and told.image_ids == tuple(range(10**6, 10**6 + 2000))


def test_what_was_reached_is_counted() -> None:
    with InFlightTable.created() as (watcher, path):
        runner = InFlightTable(path)
        runner.advance()
        runner.advance()
        assert watcher.progress == 2


def test_a_process_that_is_not_watched_has_one_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert InFlightTable.here() is InFlightTable.here()
    with InFlightTable.created() as (watcher, path):
        monkeypatch.setenv(VARIABLE, str(path))
        with InFlightTable.here().working_on([4], 9):
            assert watcher.in_hand() == (4,)
