"""A process that does shards for another one. Orders come on its stdin, a line each: what the run is, as JSON, then shard
ids. On its stdout it says, as lines of JSON, that it is `ready`, which `shard` is committed, what a person is to be told
(`said`), and why it `failed`. It is the runner of every run; only who hands out the shards is another.
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
    """What is said, a line each, from any thread. Whatever else this process prints goes to stderr."""

    def __init__(self) -> None:
        self._file = os.fdopen(os.dup(1), "w", encoding="utf-8")
        self._lock = Lock()
        os.dup2(2, 1)

    def send(self, **what: Any) -> None:
        with self._lock:
            self._file.write(json.dumps(what) + "\n")
            self._file.flush()


class ForwardingHandler(logging.Handler):
    """Warnings and the like are for the person at the other end."""

    def __init__(self, answers: ReplyChannel) -> None:
        super().__init__()
        self.answers = answers

    def emit(self, record: logging.LogRecord) -> None:
        self.answers.send(said=f"{record.levelname}: {record.getMessage()}")


class ShardProgress(ProgressBar):
    """Tells of shards, not of images: only what is committed is sure to have been done once."""

    def __init__(self, answers: ReplyChannel) -> None:
        super().__init__(0, 0, quiet=True)
        self.answers = answers

    def committed(self, shard_id: int, images: int, errors: int) -> None:
        self.answers.send(shard=shard_id, images=images, errors=errors)


class ShardQueue:
    """Shard ids as they come. A thread reads them, so that it is known whether one waits."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._waiting: SimpleQueue[int | None] = SimpleQueue()  # None: no more will come
        Thread(target=self._read, args=[lines], name="orders", daemon=True).start()

    def rounds(self) -> Iterator[Iterator[int]]:
        """Ids until none waits; then, what was begun being done, until none waits again. A runner that reads ahead over the
        end of a shard must not wait there for an order that comes when the shard is done."""
        while (first := self._waiting.get()) is not None:
            yield self._round(first)

    def _round(self, first: int) -> Iterator[int]:
        one: int | None = first
        while one is not None:
            yield one
            try:
                one = self._waiting.get_nowait()
            except Empty:
                return
        self._waiting.put(None)

    def _read(self, lines: Iterable[str]) -> None:
        for line in lines:
            self._waiting.put(int(line))
        self._waiting.put(None)


def run_worker(orders: TextIO = sys.stdin) -> None:
    """Until the orders end. Raises what a run raises."""
    answers = ReplyChannel()
    try:
        _work(orders, answers)
    except (PipelineError, OSError) as error:
        answers.send(failed=str(error))
        raise


def _work(orders: TextIO, answers: ReplyChannel) -> None:
    order = json.loads(orders.readline())
    settings = Settings.from_plain(order["settings"])
    set_log_level(settings.log_level)
    logging.getLogger("pipeline").addHandler(ForwardingHandler(answers))
    parts = build_components(settings)
    with closing(parts.source):
        work = RunSession.of(settings, parts, Writer(**order["writer"]))
        if work.folder.path.name != order["run"]:
            raise ConfigError(
                f"This worker would make {work.folder.path.name}, not {order['run']}: on its machine the same settings mean "
                "another precision or decoder. Say precision= and device=, or use machines that are alike."
            )
        if not work.plan.parts:
            raise ConfigError(
                f"{work.folder.path} has no plan here: output= must be one place for all machines."
            )
        with work.folder.lock():
            runner = work.open(lambda: ShardProgress(answers))
            answers.send(ready=True)
            for shard_ids in ShardQueue(orders).rounds():
                runner.run(shard_ids)
