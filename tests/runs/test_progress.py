"""The progress bar of a run."""

import io
import time

import pytest

from pipeline.core.inflight import InFlightTable
from pipeline.core.types import Item, Status
from pipeline.runs.progress import ProgressBar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        return 2


def batch() -> list[Item]:
    return [Item(0, "a"), Item(1, "b", status=Status.CORRUPT)]


@pytest.mark.parametrize("lines", [0, 24])
def test_a_terminal_gets_rate_errors_and_time_left(
    lines: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setattr(
        "os.get_terminal_size", lambda *a: __import__("os").terminal_size((80 * bool(lines), lines))
    )
    with ProgressBar(done=2, total=4, quiet=False) as progress:
        progress.add_items(batch())
    said = terminal.getvalue()
    assert "4/4" in said and "1 errors" in said and "images/s" in said
    assert (progress.images, progress.errors) == (2, 1)


@pytest.mark.parametrize(("stream", "quiet"), [(io.StringIO(), False), (Terminal(), True)])
def test_a_file_and_a_quiet_run_get_nothing(
    stream: io.StringIO, quiet: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr", stream)
    with ProgressBar(done=0, total=2, quiet=quiet) as progress:
        progress.add_items(batch())
    assert stream.getvalue() == "" and progress.errors == 1


def test_it_says_what_it_has_been_at_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal, board = Terminal(), InFlightTable()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setattr(
        "os.get_terminal_size", lambda *a: __import__("os").terminal_size((100, 24))
    )
    monkeypatch.setattr("pipeline.runs.progress._LONG_S", 0.5)
    with board.track([3, 4], 60), ProgressBar(done=0, total=4, quiet=False, in_flight=board):
        until = time.monotonic() + 20
        while "2 images in hand for" not in terminal.getvalue() and time.monotonic() < until:
            time.sleep(0.05)
    assert "2 images in hand for" in terminal.getvalue()
