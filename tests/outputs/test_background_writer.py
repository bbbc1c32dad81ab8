import threading

import pytest

from pipeline.outputs.background_writer import _MAX_PENDING, BackgroundWriter


def test_no_work_starts_no_thread_and_is_no_wait():
    with BackgroundWriter("test") as thread:
        thread.finish()
        assert not [one.name for one in threading.enumerate() if one.name.startswith("test_")]


def test_work_is_done_in_order_in_one_other_thread():
    done = []
    with BackgroundWriter("test") as thread:
        for i in range(3 * _MAX_PENDING):
            thread.submit(lambda i: done.append((i, threading.current_thread().name)), i)
        thread.finish()
    assert [i for i, _ in done] == list(range(3 * _MAX_PENDING))
    assert {name for _, name in done} == {"test_0"}


def test_no_more_than_so_many_wait():
    gate, done, given = threading.Event(), [], []

    def give():
        with BackgroundWriter("test") as thread:
            for i in range(_MAX_PENDING + 5):
                thread.submit(lambda: (gate.wait(30), done.append(0)))
                given.append(i)
            thread.finish()

    giver = threading.Thread(target=give)
    giver.start()
    giver.join(0.2)  # time enough to submit too many calls
    at_the_gate = len(given), len(done)
    gate.set()
    giver.join(30)
    assert (
        at_the_gate[0] <= _MAX_PENDING
        and at_the_gate[1] == 0
        and len(given) == len(done) == _MAX_PENDING + 5
    )


@pytest.mark.parametrize("later", [0, 3 * _MAX_PENDING])
def test_what_work_raises_is_raised(later):
    with BackgroundWriter("test") as thread, pytest.raises(ZeroDivisionError):
        thread.submit(lambda: 1 / 0)
        for _ in range(later):
            thread.submit(lambda: None)
        thread.finish()


def test_what_still_waits_behind_an_exception_is_not_done():
    gate, begun, done = threading.Event(), threading.Event(), []

    def first():
        begun.set()
        gate.wait(30)
        done.append("first")

    def fail():
        with BackgroundWriter("test") as thread:
            thread.submit(first)
            thread.submit(lambda: done.append("second"))
            begun.wait(30)
            threading.Timer(0.1, gate.set).start()
            raise KeyError("in the middle")

    with pytest.raises(KeyError):
        fail()
    assert done == ["first"]
