"""Who is tried again after a death, who is given up, and that it outlives the process."""

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


def died_with(*image_ids: int, status: str = "crashed") -> WorkerDeath:
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
    Quarantine(folder).record_death(died_with(*in_hand), InFlightTable())
    again = Quarantine(folder)
    assert again.suspects == set(in_hand) and not again.excluded


def test_one_that_kills_a_runner_alone_after_it_was_suspected_is_given_up(
    folder: RunFolder,
) -> None:
    board = InFlightTable()
    Quarantine(folder).record_death(died_with(3, 4), board)
    assert board.progress == 0
    Quarantine(folder).record_death(died_with(4, status="timeout"), board)
    assert board.progress == 1, "to know the culprit is to have got further"
    again = Quarantine(folder)
    said = "The runner died of SIGSEGV in two tries, the second with this input alone"
    assert again.excluded == {4: ExcludedInput(Status.TIMEOUT, said)} and again.suspects == {3}


def test_one_that_was_alone_in_hand_by_chance_gets_a_second_try(folder: RunFolder) -> None:
    suspects = Quarantine(folder)
    suspects.record_death(died_with(3, 4), InFlightTable())
    suspects.record_death(died_with(7), InFlightTable())
    assert suspects.suspects == {3, 4, 7} and not suspects.excluded


def test_one_given_up_is_not_tried_with_the_next_death(folder: RunFolder) -> None:
    suspects = Quarantine(folder)
    for death in (died_with(4), died_with(4), died_with(4, 5)):
        suspects.record_death(death, InFlightTable())
    assert suspects.suspects == {5} and set(suspects.excluded) == {4}


def test_forgiven_it_is_as_if_nothing_had_been(folder: RunFolder) -> None:
    suspects = Quarantine(folder)
    for death in (died_with(4), died_with(4)):
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
    for death in (died_with(4), died_with(4), died_with(7)):
        Quarantine(one).record_death(death, InFlightTable())
    assert set(Quarantine(other).excluded) == {4} and Quarantine(other).suspects == set(), (
        "7 was not this one's"
    )
    assert Quarantine(one).suspects == {7}
    Quarantine(alone).record_death(died_with(9), InFlightTable())
    assert [path.name for path in tmp_path.glob("suspects*")] == ["suspects.json"]
    assert set(Quarantine(other).excluded) == {4} and Quarantine(alone).suspects == {7, 9}
