"""A process that computes shards for another process.

It reads lines on stdin: first the order, as JSON, then shard ids. It writes lines of JSON on
stdout: `ready` when the model is loaded, `shard` with `images` and `errors` for each committed
shard, `message` for the user, and `failed` with the reason. Otherwise it computes shards as every
run does.
"""

import json
import logging
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import closing
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import Any, TextIO

from pipeline.config.process import set_log_level
from pipeline.config.settings import Settings
from pipeline.core.errors import ConfigError, PipelineError
from pipeline.core.types import Writer
from pipeline.runs.components import build_components
from pipeline.runs.progress import ProgressBar
from pipeline.runs.session import RunSession


class ReplyChannel:
    """Writes replies to stdout, a line each, from any thread.

    Other output of this process goes to stderr.
    """

    def __init__(self) -> None:
        self._file = os.fdopen(os.dup(1), "w", encoding="utf-8")
        self._lock = Lock()
        os.dup2(2, 1)

    def send(self, **reply: Any) -> None:
        with self._lock:
            self._file.write(json.dumps(reply) + "\n")
            self._file.flush()


class ForwardingHandler(logging.Handler):
    """Sends log records as messages, because the user sees only the log of the other process."""

    def __init__(self, channel: ReplyChannel) -> None:
        super().__init__()
        self.channel = channel

    def emit(self, record: logging.LogRecord) -> None:
        self.channel.send(message=f"{record.levelname}: {record.getMessage()}")


class ShardProgress(ProgressBar):
    """Reports committed shards instead of images, because an image may be computed twice."""

    def __init__(self, channel: ReplyChannel) -> None:
        super().__init__(0, 0, quiet=True)
        self.channel = channel

    def report_commit(self, shard_id: int, images: int, errors: int) -> None:
        self.channel.send(shard=shard_id, images=images, errors=errors)


class ShardQueue:
    """Queue of shard ids that a thread reads from lines."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._waiting: SimpleQueue[int | None] = SimpleQueue()  # None: the end
        Thread(target=self._read, args=[lines], name="read orders", daemon=True).start()

    def iterate_rounds(self) -> Iterator[Iterator[int]]:
        """Yield shard ids in rounds. A round ends when no shard id waits.

        A runner that decodes ahead asks for the next shard before it has finished the first. It
        would wait forever, because the next id comes only after the first shard is committed.
        """
        while (first := self._waiting.get()) is not None:
            yield self._iterate_round(first)

    def _iterate_round(self, first: int) -> Iterator[int]:
        shard_id: int | None = first
        while shard_id is not None:
            yield shard_id
            try:
                shard_id = self._waiting.get_nowait()
            except Empty:
                return
        self._waiting.put(None)  # for `iterate_rounds`

    def _read(self, lines: Iterable[str]) -> None:
        for line in lines:
            self._waiting.put(int(line))
        self._waiting.put(None)


def run_worker(orders: TextIO = sys.stdin) -> None:
    """Compute shards until stdin ends. Raises what a run raises."""
    channel = ReplyChannel()
    try:
        _compute_shards(orders, channel)
    except (PipelineError, OSError) as error:
        channel.send(failed=str(error))
        raise


def _compute_shards(orders: TextIO, channel: ReplyChannel) -> None:
    order = json.loads(orders.readline())
    settings = Settings.from_plain(order["settings"])
    set_log_level(settings.log_level)
    logging.getLogger("pipeline").addHandler(ForwardingHandler(channel))
    parts = build_components(settings)
    with closing(parts.source):
        session = RunSession.create(settings, parts, Writer(**order["writer"]))
        _check_session(session, order["run"])
        with session.folder.lock():
            runner = session.open_runner(lambda: ShardProgress(channel))
            channel.send(ready=True)
            for shard_ids in ShardQueue(orders).iterate_rounds():
                runner.run(shard_ids)


def _check_session(session: RunSession, expected_run: str) -> None:
    """Raise ConfigError if this machine computes other rows or does not share the folder."""
    folder = session.folder.path
    if folder.name != expected_run:
        raise ConfigError(
            f"This worker would make {folder.name}, not {expected_run}: on its machine the same "
            "settings mean "
            "another precision or decoder. Say precision= and device=, or use machines that are "
            "alike."
        )
    if not session.plan.parts:
        raise ConfigError(f"{folder} has no plan here: output= must be one place for all machines.")
