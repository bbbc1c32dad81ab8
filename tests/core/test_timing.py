"""Seconds per stage."""

from pathlib import Path

import pytest

from pipeline.core.timing import STAGES, StageTimer, read_timings


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """`clock[0]` is the time."""
    now = [100.0]
    monkeypatch.setattr("pipeline.core.timing.perf_counter", lambda: now[0])
    return now


def test_nothing_done_is_zero_for_every_stage() -> None:
    assert StageTimer().total_seconds() == dict.fromkeys(STAGES, 0.0)


def test_stages_add_up_also_when_they_fail(clock: list[float]) -> None:
    timer = StageTimer()
    with timer.measure("read"):
        clock[0] += 2
    with pytest.raises(KeyError), timer.measure("read"):
        clock[0] += 3
        raise KeyError
    assert timer.total_seconds()["read"] == 5.0


def test_since_last_is_the_difference_to_the_call_before(clock: list[float]) -> None:
    timer = StageTimer()
    told = []
    for seconds in (1.0, 4.0):
        with timer.measure("forward"):
            clock[0] += seconds
        told.append(timer.take_lap()["forward"])
    assert told == [1.0, 4.0] and timer.total_seconds()["forward"] == 5.0


def test_waiting_counts_until_each_value_and_the_end(clock: list[float]) -> None:
    timer = StageTimer()

    def slow() -> object:
        for i in range(3):
            clock[0] += 1
            yield i
        clock[0] += 10

    found = []
    for value in timer.time_iteration("wait", slow()):
        clock[0] += 100  # the consumer's own time
        found.append(value)
    assert found == [0, 1, 2] and timer.total_seconds()["wait"] == 13.0


def test_timings_are_read_but_for_a_line_that_a_kill_has_cut(tmp_path: Path) -> None:
    assert list(read_timings(tmp_path / "timing.jsonl")) == []
    (tmp_path / "timing.jsonl").write_text('{"shard": 0, "images": 4}\n[]\n3\n{"shard": 1, "ima')
    assert list(read_timings(tmp_path / "timing.jsonl")) == [{"shard": 0, "images": 4}]
