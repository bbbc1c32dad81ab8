"""Inputs that are tried again after a death, inputs that are excluded, and how both are stored."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.core.inflight import InFlightTable, WorkerDeath
from pipeline.core.types import ExcludedInput, Status, Writer
from pipeline.runs.isolation.quarantine import Quarantine
from pipeline.runs.run_folder import RunFolder


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[RunFolder]:
    run = RunFolder(tmp_path / "run")
    with run.lock():
        yield run


def make_death(*image_ids: int, status: str = "crashed") -> WorkerDeath:
    return WorkerDeath(status, "The runner died of SIGSEGV", image_ids)


def test_without_a_death_nothing_is_suspected_and_nothing_written(folder: RunFolder) -> None:
    suspects = Quarantine(folder)
    suspects.record_death(None, InFlightTable())
    assert not suspects.suspects and not suspects.excluded
    assert not (folder.path / "suspects.json").exists()


@pytest.mark.parametrize("in_hand", [(3,), (3, 4, 9)])
def test_what_a_dead_runner_had_in_hand_is_tried_by_the_next_whoever_that_is(
    in_hand: tuple[int, ...], folder: RunFolder
) -> None:
    Quarantine(folder).record_death(make_death(*in_hand), InFlightTable())
    reopened = Quarantine(folder)
    assert reopened.suspects == set(in_hand) and not reopened.excluded


def test_one_that_kills_a_runner_alone_after_it_was_suspected_is_given_up(
    folder: RunFolder,
) -> None:
    table = InFlightTable()
    Quarantine(folder).record_death(make_death(3, 4), table)
    assert table.progress == 0
    Quarantine(folder).record_death(make_death(4, status="timeout"), table)
    assert table.progress == 1, "finding the culprit counts as progress"
    reopened = Quarantine(folder)
    error = "The runner died of SIGSEGV in two tries, the second with this input alone"
    assert reopened.excluded == {4: ExcludedInput(Status.TIMEOUT, error)} and reopened.suspects == {
        3
    }


def test_one_that_was_alone_in_hand_by_chance_gets_a_second_try(folder: RunFolder) -> None:
    suspects = Quarantine(folder)
    suspects.record_death(make_death(3, 4), InFlightTable())
    suspects.record_death(make_death(7), InFlightTable())
    assert suspects.suspects == {3, 4, 7} and not suspects.excluded


def test_one_given_up_is_not_tried_with_the_next_death(folder: RunFolder) -> None:
    suspects = Quarantine(folder)
    for death in (make_death(4), make_death(4), make_death(4, 5)):
        suspects.record_death(death, InFlightTable())
    assert suspects.suspects == {5} and set(suspects.excluded) == {4}


def test_forgiven_it_is_as_if_nothing_had_been(folder: RunFolder) -> None:
    suspects = Quarantine(folder)
    for death in (make_death(4), make_death(4)):
        suspects.record_death(death, InFlightTable())
    suspects.release_all()
    assert (
        not suspects.excluded
        and not Quarantine(folder).excluded
        and not Quarantine(folder).suspects
    )


def test_what_one_writer_gave_up_all_know_and_who_writes_alone_keeps_it(tmp_path: Path) -> None:
    one, other, alone = (
        RunFolder(tmp_path, writer) for writer in (Writer("0-of-2"), Writer("1-of-2"), Writer())
    )
    for death in (make_death(4), make_death(4), make_death(7)):
        Quarantine(one).record_death(death, InFlightTable())
    assert set(Quarantine(other).excluded) == {4} and Quarantine(other).suspects == set(), (
        "7 was not this one's"
    )
    assert Quarantine(one).suspects == {7}
    Quarantine(alone).record_death(make_death(9), InFlightTable())
    assert [path.name for path in tmp_path.glob("suspects*")] == ["suspects.json"]
    assert set(Quarantine(other).excluded) == {4} and Quarantine(alone).suspects == {7, 9}
