"""The supervisor process, which the user starts. It starts the runner and restarts a dead one.

The runner has the model and decodes in threads. Threads are fast but not isolated: a crash in a
decoder ends the whole process, and Python cannot catch it. The supervisor therefore imports the
standard library only and has no model. After a death it reads from the in-flight table which inputs
the runner was working on. The next runner tries each of them alone (`quarantine.py`).
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

StartProcess = Callable[..., "subprocess.Popen[bytes]"]
# Environment variable of the runner: the read end of a pipe. The other end closes when this process
# ends.
LIFELINE = "VISIONBATCH_LIFELINE"
_MAX_DEATHS = 3  # in a row, without progress in between
_GRACE_S = 30  # between a signal and SIGKILL; Slurm's default
_ORPHAN_GRACE_S = 5  # the same after the supervisor has died
_POLL_S = 0.5
# The runner must import this package, whatever the current folder contains. The package's parent is
# the last entry of the path, where it shadows nothing.
_PROGRAM = "import sys; sys.path.append({!r}); from pipeline.cli import main; sys.exit(main())"
RUNNER = (sys.executable, "-P", "-c", _PROGRAM.format(str(Path(__file__).parents[3])))


def supervise(arguments: Sequence[str], program: Sequence[str] = RUNNER) -> int:
    """Run `program` with these arguments until it is done.

    Returns the exit code of the last runner.
    """
    with InFlightTable.create_shared() as (table, path):
        supervisor = RunnerSupervisor(table, path, [*program, *arguments])
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, supervisor.forward_signal)
        return restart_until_done(supervisor, _print_message)


def restart_until_done(supervisor: "RunnerSupervisor", report: Callable[[str], None]) -> int:
    """Start runners until one ends normally or by a signal, or three in a row die without progress.

    Args:
        supervisor: Starts the runners.
        report: Called with a message for the user after each death.

    Returns:
        The exit code for the user.
    """
    table, n_deaths = supervisor.table, 0
    while True:
        progress_before = table.progress
        code, hung_image_ids = supervisor.run_once()
        if supervisor.received_signal:
            return code if code >= 0 else 128 + supervisor.received_signal
        if code >= 0:
            return code

        n_deaths = 0 if table.progress > progress_before else n_deaths + 1
        death = _describe_death(code, hung_image_ids, table)
        if n_deaths == _MAX_DEATHS:
            report(
                f"{death.reason}, for the {_MAX_DEATHS}rd time without getting any further. "
                "Committed shards are intact."
            )
            return 1
        then = "which tries each alone" if death.image_ids else "which goes on"
        report(
            f"{death.reason}, with {len(death.image_ids)} inputs in hand. Starting another, {then}."
        )
        table.report_death(death)


def _describe_death(
    code: int, hung_image_ids: tuple[int, ...], table: InFlightTable
) -> WorkerDeath:
    """Describe the death of a runner: by a signal, or because it hung and was killed."""
    if hung_image_ids:
        reason = "The runner took longer than timeout= allows"
        return WorkerDeath("timeout", reason, hung_image_ids, table.run)
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    return WorkerDeath("crashed", f"The runner died of {name}", table.read_image_ids(), table.run)


class RunnerSupervisor:
    """Starts runners one after the other, kills one that hangs, and forwards signals.

    Args:
        table: The in-flight table that the runners write.
        path: The file of that table.
        command: The command line of a runner.
        start: Starts a process from a command with `env` and `pass_fds`, as `subprocess.Popen`
            does.
    """

    def __init__(
        self,
        table: InFlightTable,
        path: Path,
        command: Sequence[str],
        start: StartProcess | None = None,
    ) -> None:
        self.table, self.path, self.command = table, path, command
        self.start = start or subprocess.Popen
        self.received_signal = 0  # 0: none
        self._received_at = 0.0
        self._runner: subprocess.Popen[bytes] | None = None

    def run_once(self) -> tuple[int, tuple[int, ...]]:
        """Start a runner and wait for its end.

        Returns:
            The exit code, negative for a signal; and the image ids for which the runner was killed
            because it hung.
        """
        read_end, write_end = os.pipe()
        variables = {TABLE_VARIABLE: str(self.path), LIFELINE: str(read_end)}
        environment = os.environ | variables
        self._runner = runner = self.start(self.command, env=environment, pass_fds=[read_end])
        os.close(read_end)
        try:
            if self.received_signal:  # it came while no runner existed
                runner.send_signal(self.received_signal)
            return self._wait(runner)
        finally:
            os.close(write_end)

    def _wait(self, runner: "subprocess.Popen[bytes]") -> tuple[int, tuple[int, ...]]:
        hung_image_ids: tuple[int, ...] = ()
        last_poll = lenient_until = time.monotonic()
        while True:
            try:
                return runner.wait(_POLL_S), hung_image_ids
            except subprocess.TimeoutExpired:
                now = time.monotonic()

            # After Ctrl-Z this process was stopped too, so the deadlines that passed do not count.
            if now - last_poll > 10 * _POLL_S:
                lenient_until = now + (now - last_poll)
            last_poll = now

            if not hung_image_ids and now > lenient_until:
                hung_image_ids = self.table.read_image_ids(overdue_at=now)
                if hung_image_ids:
                    runner.kill()
            if self.received_signal and now - self._received_at > _GRACE_S:
                runner.kill()

    def forward_signal(self, number: int, frame: FrameType | None = None) -> None:
        """Forward a first signal to the runner. Kill the runner on a second one."""
        if self.received_signal and self._runner:
            self._runner.kill()
            return
        self.received_signal, self._received_at = number, time.monotonic()
        if self._runner:
            self._runner.send_signal(number)


def _print_message(message: str) -> None:
    print(f"visionbatch: {message}", file=sys.stderr, flush=True)


def exit_with_supervisor() -> None:
    """End this runner when its supervisor has ended for any reason.

    Otherwise the runner would continue without a user and keep the run folder locked. A thread
    sends SIGTERM to this process, then SIGKILL.
    """
    lifeline = os.environ.get(LIFELINE)
    if lifeline is None:
        return

    def wait_for_end() -> None:
        os.read(int(lifeline), 1)  # returns when the other end is closed
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_ORPHAN_GRACE_S)
        os.kill(os.getpid(), signal.SIGKILL)

    os.set_inheritable(int(lifeline), False)
    Thread(target=wait_for_end, name="lifeline", daemon=True).start()
