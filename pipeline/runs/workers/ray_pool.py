"""Workers of a Ray cluster and the shards they have in hand: who gets the next, and what becomes of those of a lost one."""

import logging
import signal
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from time import monotonic
from typing import Any

from pipeline.core.errors import ConfigError, PipelineError
from pipeline.core.protocols import Progress
from pipeline.runs.workers.supervised_worker import WorkerReply

log = logging.getLogger(__name__)
SHARDS_PER_WORKER = 2  # shards of a worker: it reads ahead into the second while it does the first
_TICK_S = 1.0
_LONG_S = 30.0  # without any worker, after which it is said
_GRACE_S = 8.0  # for workers to end in order


class WorkerPool:
    """`size` workers, made by `hire`, and the shards they have in hand. What a worker has when it is lost is tried again,
    each shard alone, so that a shard that ends its worker takes no other with it."""

    def __init__(
        self, hire: Callable[[int], Any], size: int, attempts: int, signals: "DeferredSignals"
    ) -> None:
        self.hire, self.size, self.attempts, self.signals = hire, size, attempts, signals
        self.given_up: dict[int, str] = {}  # shard_id -> why
        self._hands: dict[int, Any] = {}
        self._asked: dict[
            Any, tuple[int, int | None]
        ] = {}  # answer to come -> (worker, shard; None: whether it is ready)
        self._ready: set[int] = set()
        self._queue: deque[int] = deque()
        self._alone: deque[int] = deque()
        self._tried: Counter[int] = Counter()  # by shard
        self._fruitless: Counter[int] = Counter()  # by worker, since it committed anything
        self._told: set[str] = set()

    def start(self, shard_ids: Sequence[int]) -> None:
        """Hire, and wait for the first worker that is ready."""
        self._queue.extend(shard_ids)
        for number in range(self.size):
            self._hire(number)
        waited_since = monotonic()
        while not self._ready:
            self._next(None)
            if waited_since and monotonic() - waited_since > _LONG_S:
                log.info("Waiting for Ray to start a worker, and for its model.")
                waited_since = 0.0

    def run(self, progress: Progress) -> None:
        for number in self._ready:
            self._give(number)
        while self._left():
            self._next(progress)

    def _left(self) -> bool:
        return bool(self._queue or self._alone) or any(
            shard_id is not None for _, shard_id in self._asked.values()
        )

    def close(self) -> None:
        """Workers end in order if they do so soon. Those that Ray has lost are gone already."""
        ray = import_ray()
        with suppress(Exception):
            ray.wait(
                [hand.close.remote() for hand in self._hands.values()],
                num_returns=len(self._hands),
                timeout=_GRACE_S,
            )
        for hand in self._hands.values():
            ray.kill(hand)

    def _hire(self, number: int) -> None:
        self._hands[number] = self.hire(number)
        self._asked[self._hands[number].ready.remote()] = (number, None)

    def _next(self, progress: Progress | None) -> None:
        """What is answered next, within a second."""
        ray = import_ray()
        self.signals.raise_pending()
        for answered in ray.wait(list(self._asked), timeout=_TICK_S)[0]:
            number, shard_id = self._asked.pop(answered)
            try:
                answer: WorkerReply = ray.get(answered)
            except ray.exceptions.RayError as error:
                answer = {
                    "said": [],
                    "failed": f"its actor was lost: {str(error).splitlines()[0]}",
                    "code": 1,
                }
            for text in answer["said"]:
                self._say(text)
            if "failed" in answer:
                self._lost(number, shard_id, answer)
            else:
                self._ready.add(number)
                if shard_id is not None and progress:
                    self._fruitless[number] = 0
                    progress.add(answer["images"], answer["errors"])
            if progress:
                for one in self._ready:
                    self._give(one)

    def _give(self, number: int) -> None:
        """As much as it may have: two shards, or one that was lost before."""
        while True:
            held = [
                shard_id
                for one, shard_id in self._asked.values()
                if one == number and shard_id is not None
            ]
            if not held and self._alone:
                shard_id = self._alone.popleft()
            elif (
                self._queue
                and len(held) < SHARDS_PER_WORKER
                and not any(self._tried[one] for one in held)
            ):
                shard_id = self._queue.popleft()
            else:
                return
            self._asked[self._hands[number].do.remote(shard_id)] = (number, shard_id)

    def _lost(self, number: int, shard_id: int | None, answer: WorkerReply) -> None:
        """A worker that has failed is replaced, unless that is no use. Raises PipelineError then."""
        why, code = answer["failed"], answer["code"]
        if code in (2, 3, 4):  # settings, a lock, a full disk: so it would be for the next
            raise _with_code(PipelineError(why), code)
        held = [shard_id, *(shard for one, shard in self._asked.values() if one == number)]
        self._asked = {ref: what for ref, what in self._asked.items() if what[0] != number}
        self._ready.discard(number)
        for shard in (one for one in held if one is not None):
            self._tried[shard] += 1
            if self._tried[shard] < self.attempts:
                self._alone.append(shard)
            else:
                self.given_up[shard] = why
        with suppress(Exception):
            import_ray().kill(self._hands[number])
        self._fruitless[number] += 1
        if self._fruitless[number] < self.attempts:
            log.warning("Worker %d was lost (%s). Another takes its place.", number, why)
            self._hire(number)
        elif self._left() and all(
            self._fruitless[one] >= self.attempts for one in range(self.size)
        ):
            raise _with_code(
                PipelineError(f"No worker gets any further: {why} Committed shards are intact."),
                code,
            )

    def _say(self, text: str) -> None:
        """Once, however many workers say it."""
        if text not in self._told:
            self._told.add(text)
            level, _, message = text.partition(": ")
            log.log(logging.getLevelNamesMapping().get(level, logging.WARNING), "%s", message)


class DeferredSignals:
    """Kept until the driver can obey: what a handler raises does not come through Ray's own code."""

    def __enter__(self) -> "DeferredSignals":
        self._handlers = {
            number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)
        }
        self._came: list[int] = []
        self.install()
        return self

    def install(self) -> None:
        for number in self._handlers:
            signal.signal(number, lambda came, frame: self._came.append(came))

    def raise_pending(self) -> None:
        if self._came:
            signal.signal(self._came[0], self._handlers[signal.Signals(self._came[0])])
            signal.raise_signal(self._came[0])

    def __exit__(self, kind: type[BaseException] | None, error: object, traceback: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        if kind is None:
            self.raise_pending()


def _with_code(error: PipelineError, code: int) -> PipelineError:
    error.exit_code = code
    return error


def import_ray() -> Any:
    """Raises ConfigError where it is not installed."""
    try:
        import ray
    except ImportError:
        raise ConfigError(
            "executor=ray needs Ray: pip install 'visionbatch[ray]', or say executor=local."
        ) from None
    return ray
