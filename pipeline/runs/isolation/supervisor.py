"""The process that a user starts. It starts the runner, which has the model, and starts another when that one dies or hangs.

A decoder that crashes takes its process with it, whatever Python catches; threads that decode are fast because nothing
stands between. So what isolates them is this: a process that imports no library, holds no model, and knows from the board
(`board.py`) which inputs the dead runner had in hand. The next runner tries these one by one (`suspects.py`).
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Thread
from types import FrameType

from pipeline.core.inflight import TABLE_VARIABLE, InFlightTable, WorkerDeath

Start = Callable[..., "subprocess.Popen[bytes]"]
LIFELINE = "VISIONBATCH_LIFELINE"  # a pipe's end in the runner's environment; its other end closes when this process ends
_FRUITLESS = 3  # deaths one after the other with nothing reached in between
_GRACE_S = 30  # between a signal and the end: Slurm's default
_GRACE_ALONE_S = 5
_TICK_S = 0.5
# This very package, whatever lies in the current folder; at the path's end, where it shadows nothing.
_PROGRAM = "import sys; sys.path.append({!r}); from pipeline.cli import main; sys.exit(main())"
RUNNER = (sys.executable, "-P", "-c", _PROGRAM.format(str(Path(__file__).parents[3])))


def supervise(arguments: Sequence[str], program: Sequence[str] = RUNNER) -> int:
    """The exit code of the last runner, which is `program` with these arguments."""
    with InFlightTable.create_shared() as (board, path):
        watch = RunnerSupervisor(board, path, [*program, *arguments])
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, watch.forward_signal)
        return restart_until_done(watch, _say)


def restart_until_done(watch: "RunnerSupervisor", say: Callable[[str], None]) -> int:
    """One runner after another, until one ends by itself, or is asked to, or the third in a row gets nowhere."""
    board = watch.board
    fruitless = 0
    while True:
        before = board.progress
        code, hung = watch.run_once()
        if watch.received_signal:
            return code if code >= 0 else 128 + watch.received_signal
        if code >= 0:
            return code
        fruitless = 0 if board.progress > before else fruitless + 1
        death = _death(code, hung, board)
        if fruitless == _FRUITLESS:
            say(
                f"{death.reason}, for the {_FRUITLESS}rd time without getting any further. Committed shards are intact."
            )
            return 1
        then = "which tries each alone" if death.image_ids else "which goes on"
        say(
            f"{death.reason}, with {len(death.image_ids)} inputs in hand. Starting another, {then}."
        )
        board.report_death(death)


def _death(code: int, hung: tuple[int, ...], board: InFlightTable) -> WorkerDeath:
    if hung:
        return WorkerDeath(
            "timeout", "The runner took longer than timeout= allows", hung, board.run
        )
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    return WorkerDeath("crashed", f"The runner died of {name}", board.read_image_ids(), board.run)


class RunnerSupervisor:
    """Runners, one after the other. Signals are handed on; the second one kills."""

    def __init__(
        self, board: InFlightTable, path: Path, command: Sequence[str], start: Start | None = None
    ) -> None:
        """`start` takes the command with `env` and `pass_fds`, as Popen does."""
        self.board, self.path, self.command, self.start = (
            board,
            path,
            command,
            start or subprocess.Popen,
        )
        self.received_signal = 0  # the signal that this process was sent
        self._asked_at = 0.0
        self._runner: subprocess.Popen[bytes] | None = None

    def run_once(self) -> tuple[int, tuple[int, ...]]:
        """(exit code, the inputs at which it hung and was killed for)."""
        read_end, write_end = os.pipe()
        own = {TABLE_VARIABLE: str(self.path), LIFELINE: str(read_end)}
        self._runner = runner = self.start(self.command, env=os.environ | own, pass_fds=[read_end])
        os.close(read_end)
        try:
            if self.received_signal:  # while there was none
                runner.send_signal(self.received_signal)
            return self._until_it_ends(runner)
        finally:
            os.close(write_end)

    def _until_it_ends(self, runner: "subprocess.Popen[bytes]") -> tuple[int, tuple[int, ...]]:
        hung: tuple[int, ...] = ()
        seen = lenient_until = time.monotonic()
        while True:
            try:
                return runner.wait(_TICK_S), hung
            except subprocess.TimeoutExpired:
                now = time.monotonic()
            if (
                now - seen > 10 * _TICK_S
            ):  # this process was stopped too: Ctrl-Z is no hanging runner
                lenient_until = now + (now - seen)
            seen = now
            if (self.received_signal and now - self._asked_at > _GRACE_S) or (
                now > lenient_until
                and not hung
                and (hung := self.board.read_image_ids(overdue_at=now))
            ):
                runner.kill()

    def forward_signal(self, number: int, frame: FrameType | None = None) -> None:
        runner = self._runner
        if self.received_signal and runner:
            runner.kill()
        else:
            self.received_signal, self._asked_at = number, time.monotonic()
            if runner:
                runner.send_signal(number)


def _say(message: str) -> None:
    print(f"visionbatch: {message}", file=sys.stderr, flush=True)


def exit_with_supervisor() -> None:
    """In a runner: end, in order if that can be, when the watching process has ended, however that was. Else it would go on
    unseen, and hold the run folder."""
    lifeline = os.environ.get(LIFELINE)
    if lifeline is None:
        return

    def wait() -> None:
        os.read(int(lifeline), 1)  # returns when the other end is closed
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_GRACE_ALONE_S)
        os.kill(os.getpid(), signal.SIGKILL)

    os.set_inheritable(int(lifeline), False)
    Thread(target=wait, name="lifeline", daemon=True).start()
