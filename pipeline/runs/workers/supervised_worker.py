"""A worker process, started and supervised by a process that has no model.

This module imports the standard library only, besides modules that do the same.
"""

import json
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Condition, Thread
from typing import IO, Any

from pipeline.core.inflight import InFlightTable
from pipeline.runs.isolation.supervisor import RUNNER, RunnerSupervisor, restart_until_done

WORKER = (*RUNNER, "worker")
# `messages` for the user, and either `images` and `errors` of a shard, or why the worker `failed`
# with its exit `code`.
WorkerReply = dict[str, Any]


class SupervisedWorker:
    """Starts a worker process, restarts it after a crash, and waits for its replies.

    `ready` and `do` may be called from several threads at once. A restarted worker gets the shards
    that the previous one had not committed.

    Args:
        order: The worker's first input line, as JSON. It starts in `order["folder"]` if that
            exists.
        environment: Variables in addition to those of this process.
        command: The command line of the worker.
    """

    def __init__(
        self,
        order: Mapping[str, Any],
        environment: Mapping[str, str],
        command: Sequence[str] = WORKER,
    ) -> None:
        self._order, self._environment, self._command = json.dumps(order), environment, command
        self._folder = order["folder"] if Path(order["folder"]).is_dir() else None
        self._changed = Condition()  # guards the attributes below
        self._assigned: dict[int, None] = {}  # shard ids in the order in which they were given
        self._replies: dict[int, WorkerReply] = {}  # of committed shards
        self._messages: list[str] = []
        self._is_ready, self._has_ended = False, False
        self._failure, self._exit_code = "", 0
        self._stdin: IO[bytes] | None = None
        self._reader: Thread | None = None
        self._supervisor: RunnerSupervisor | None = None
        self._thread = Thread(target=self._supervise, name="supervise", daemon=True)
        self._thread.start()

    def ready(self) -> WorkerReply:
        """Wait until the worker has loaded its model."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_ready or self._has_ended)
            return self._make_reply({} if self._is_ready else None)

    def do(self, shard_id: int) -> WorkerReply:
        """Assign the worker a shard and wait until it is committed."""
        with self._changed:
            self._assigned[shard_id] = None
            self._write_line(str(shard_id))
            self._changed.wait_for(lambda: shard_id in self._replies or self._has_ended)
            return self._make_reply(self._replies.pop(shard_id, None))

    def close(self) -> None:
        """Ask the worker to end and wait. The supervisor kills it after the usual grace time."""
        with self._changed:
            self._changed.wait_for(lambda: self._supervisor is not None or self._has_ended)
        if self._supervisor:
            self._supervisor.forward_signal(signal.SIGTERM)
        self._thread.join()

    def _make_reply(self, reply: WorkerReply | None) -> WorkerReply:
        """Add the messages so far to a reply, or to a failure reply if `reply` is None."""
        messages, self._messages = self._messages, []
        if reply is None:
            failed = self._failure or f"ended with exit code {self._exit_code}"
            reply = {"failed": failed, "code": self._exit_code}
        return {"messages": messages, **reply}

    def _supervise(self) -> None:
        """Run workers one after the other, until one ends by itself or none makes progress."""
        exit_code = 1
        try:
            with InFlightTable.create_shared() as (table, path):
                with self._changed:
                    self._supervisor = RunnerSupervisor(table, path, self._command, self._start)
                    self._changed.notify_all()
                exit_code = restart_until_done(self._supervisor, self._handle_death)
                self._read_to_end()
        except OSError as error:
            self._failure = f"no worker could be started: {error}"
        finally:
            with self._changed:
                self._close_stdin()
                self._has_ended, self._exit_code = True, exit_code
                self._changed.notify_all()

    def _read_to_end(self) -> None:
        """Wait for the last lines of a worker that has ended."""
        if self._reader:
            self._reader.join()

    def _start(
        self, command: Sequence[str], env: Mapping[str, str], pass_fds: Sequence[int]
    ) -> "subprocess.Popen[bytes]":
        """Start a worker and send it the order and the shards that are not committed."""
        self._read_to_end()
        worker = subprocess.Popen(
            command,
            env={**env, **self._environment},
            cwd=self._folder,
            pass_fds=pass_fds,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._reader = Thread(
            target=self._read_lines, args=[worker.stdout], name="read replies", daemon=True
        )
        self._reader.start()

        with self._changed:
            self._close_stdin()
            self._stdin = worker.stdin
            self._write_line(self._order)
            for shard_id in self._assigned:
                self._write_line(str(shard_id))
        return worker

    def _write_line(self, line: str) -> None:
        if self._stdin is None:
            return
        try:
            self._stdin.write(line.encode() + b"\n")
            self._stdin.flush()
        except OSError:  # the worker has just died; the next one gets the line
            self._close_stdin()

    def _close_stdin(self) -> None:
        if self._stdin:
            with suppress(OSError):
                self._stdin.close()
        self._stdin = None

    def _read_lines(self, stdout: IO[bytes]) -> None:
        with stdout:
            for line in stdout:
                self._handle_line(json.loads(line))

    def _handle_line(self, line: dict[str, Any]) -> None:
        """Handle one line from the worker. `worker.py` describes the lines."""
        with self._changed:
            if "shard" in line:
                shard_id = line.pop("shard")
                self._assigned.pop(shard_id, None)
                self._replies[shard_id] = line
            self._is_ready |= "ready" in line
            self._failure = line.get("failed", self._failure)
            self._messages += [line["message"]] if "message" in line else []
            self._changed.notify_all()

    def _handle_death(self, message: str) -> None:
        """Keep the supervisor's message: after the last death it explains the failure."""
        self._failure = message
        self._handle_line({"message": f"WARNING: {message}"})
