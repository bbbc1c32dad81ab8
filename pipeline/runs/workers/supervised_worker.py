"""A worker process in the hands of a process without a model: it gets shards, is watched as every runner is, and replaced
when it dies or hangs. Imports no library, as `supervise.py` does not."""

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
WorkerReply = dict[
    str, Any
]  # `said` (texts for a person) with `images` and `errors` of a shard, or why it `failed`, with `code`


class SupervisedWorker:
    """`ready` and `do` may be called from several threads at once; each waits for its answer."""

    def __init__(
        self,
        order: Mapping[str, Any],
        environment: Mapping[str, str],
        command: Sequence[str] = WORKER,
    ) -> None:
        """`order` is the worker's first line, with the `folder` to be in, where there is such a one."""
        self._order, self._command = json.dumps(order), command
        self._environment = environment
        self._folder = order["folder"] if Path(order["folder"]).is_dir() else None
        self._changed = Condition()
        self._in_hand: dict[int, None] = {}  # in the order in which they were given
        self._done: dict[int, WorkerReply] = {}
        self._said: list[str] = []
        self._ready, self._ended = False, False
        self._why, self._code = "", 0
        self._stdin: IO[bytes] | None = None
        self._listener: Thread | None = None
        self._watch: RunnerSupervisor | None = None
        self._keeper = Thread(target=self._keep_running, name="watch", daemon=True)
        self._keeper.start()

    def ready(self) -> WorkerReply:
        """When its model is loaded."""
        with self._changed:
            self._changed.wait_for(lambda: self._ready or self._ended)
            return self._answer({} if self._ready else None)

    def do(self, shard_id: int) -> WorkerReply:
        """When the shard is committed."""
        with self._changed:
            self._in_hand[shard_id] = None
            self._tell(str(shard_id))
            self._changed.wait_for(lambda: shard_id in self._done or self._ended)
            return self._answer(self._done.pop(shard_id, None))

    def close(self) -> None:
        """It ends in order, or is killed after the time that any runner has for that."""
        with self._changed:
            self._changed.wait_for(lambda: self._watch is not None or self._ended)
        if self._watch:
            self._watch.forward_signal(signal.SIGTERM)
        self._keeper.join()

    def _answer(self, found: WorkerReply | None) -> WorkerReply:
        said, self._said = self._said, []
        failed = {"failed": self._why or f"ended with exit code {self._code}", "code": self._code}
        return {"said": said, **(failed if found is None else found)}

    def _keep_running(self) -> None:
        code = 1
        try:
            with InFlightTable.create_shared() as (board, path):
                with self._changed:
                    self._watch = RunnerSupervisor(board, path, self._command, self._start)
                    self._changed.notify_all()
                code = restart_until_done(self._watch, self._heard)
                self._hear_out()
        except OSError as error:
            self._why = f"no worker could be started: {error}"
        finally:
            with self._changed:
                self._hang_up()
                self._ended, self._code = True, code
                self._changed.notify_all()

    def _hear_out(self) -> None:
        """The worker that has ended may have said more before."""
        if self._listener:
            self._listener.join()

    def _start(
        self, command: Sequence[str], env: Mapping[str, str], pass_fds: Sequence[int]
    ) -> "subprocess.Popen[bytes]":
        """A worker that is given what the one before had in hand."""
        self._hear_out()
        pipe = subprocess.PIPE
        worker = subprocess.Popen(
            command,
            env={**env, **self._environment},
            cwd=self._folder,
            pass_fds=pass_fds,
            stdin=pipe,
            stdout=pipe,
        )
        self._listener = Thread(
            target=self._listen, args=[worker.stdout], name="listen", daemon=True
        )
        self._listener.start()
        with self._changed:
            self._hang_up()
            self._stdin = worker.stdin
            self._tell(self._order)
            for shard_id in self._in_hand:
                self._tell(str(shard_id))
        return worker

    def _tell(self, line: str) -> None:
        if self._stdin is None:
            return
        try:
            self._stdin.write(line.encode() + b"\n")
            self._stdin.flush()
        except OSError:  # it has just died; the next one is told again
            self._hang_up()

    def _hang_up(self) -> None:
        if self._stdin:
            with suppress(OSError):
                self._stdin.close()
        self._stdin = None

    def _listen(self, answers: IO[bytes]) -> None:
        with answers:
            for line in answers:
                self._take(json.loads(line))

    def _take(self, answer: WorkerReply) -> None:
        with self._changed:
            if "shard" in answer:
                shard_id = answer.pop("shard")
                self._in_hand.pop(shard_id, None)
                self._done[shard_id] = answer
            self._ready |= "ready" in answer
            self._why = answer.get("failed", self._why)
            self._said += [answer["said"]] if "said" in answer else []
            self._changed.notify_all()

    def _heard(self, message: str) -> None:
        """From who watches: a worker has died. If it is the last one, that is why it failed."""
        self._why = message
        self._take({"said": f"WARNING: {message}"})
