"""Distribute shards to the workers of a Ray cluster and replace workers that are lost."""

import logging
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from time import monotonic
from typing import Any

from pipeline.core.errors import ConfigError, PipelineError
from pipeline.core.protocols import Progress
from pipeline.runs.workers.deferred_signals import DeferredSignals
from pipeline.runs.workers.supervised_worker import WorkerReply

log = logging.getLogger(__name__)
SHARDS_PER_WORKER = 2  # a worker decodes the second ahead while it computes the first
_POLL_S = 1.0
_SLOW_START_S = 30.0  # without a ready worker, until the user gets a message
_SHUTDOWN_S = 8.0  # for workers to end by themselves
_PERMANENT_EXIT_CODES = (
    2,
    3,
    4,
)  # settings, lock, full disk: another worker would fail in the same way


class WorkerPool:
    """Actors that compute shards, and the shards assigned to each.

    Each shard of a lost worker is tried again alone on a worker, so that a shard that kills its
    worker takes no other shard with it. A shard that has lost `attempts` workers is abandoned.

    Args:
        create_worker: Creates the actor with this number.
        size: Number of workers.
        attempts: Workers that one shard may lose.
        signals: The deferred signals, raised between two polls.
    """

    def __init__(
        self,
        create_worker: Callable[[int], Any],
        size: int,
        attempts: int,
        signals: DeferredSignals,
    ) -> None:
        self.create_worker, self.size, self.attempts = create_worker, size, attempts
        self.signals = signals
        self.abandoned: dict[int, str] = {}  # shard_id -> reason
        self._workers: dict[int, Any] = {}  # by worker number
        # Ray's reference to a reply -> (worker number, shard id); shard id None: the reply to
        # `ready`
        self._pending: dict[Any, tuple[int, int | None]] = {}
        self._ready: set[int] = set()  # worker numbers
        self._queue: deque[int] = deque()  # shards that were never lost
        self._retry_queue: deque[int] = deque()  # shards to compute alone on a worker
        self._n_losses: Counter[int] = Counter()  # by shard
        self._n_failures: Counter[int] = Counter()  # by worker, since it last committed a shard
        self._logged: set[str] = set()

    def start(self, shard_ids: Sequence[int]) -> None:
        """Create the workers and wait until one of them is ready."""
        self._queue.extend(shard_ids)
        for number in range(self.size):
            self._create(number)

        start, is_logged = monotonic(), False
        while not self._ready:
            self._handle_replies(None)
            if not is_logged and monotonic() - start > _SLOW_START_S:
                log.info("Waiting for Ray to start a worker, and for its model.")
                is_logged = True

    def run(self, progress: Progress) -> None:
        """Compute all shards."""
        for number in self._ready:
            self._assign_shards(number)
        while self._has_work():
            self._handle_replies(progress)

    def close(self) -> None:
        """Ask the workers to end, then kill them."""
        ray = import_ray()
        with suppress(Exception):  # a lost worker raises
            ray.wait(
                [worker.close.remote() for worker in self._workers.values()],
                num_returns=len(self._workers),
                timeout=_SHUTDOWN_S,
            )
        for worker in self._workers.values():
            ray.kill(worker)

    def _create(self, number: int) -> None:
        worker = self._workers[number] = self.create_worker(number)
        self._pending[worker.ready.remote()] = (number, None)

    def _has_work(self) -> bool:
        return bool(self._queue or self._retry_queue) or any(
            shard_id is not None for _, shard_id in self._pending.values()
        )

    def _handle_replies(self, progress: Progress | None) -> None:
        """Handle the replies that arrive within a second.

        `progress` is None while workers start.
        """
        ray = import_ray()
        self.signals.raise_pending()
        for reference in ray.wait(list(self._pending), timeout=_POLL_S)[0]:
            number, shard_id = self._pending.pop(reference)
            reply = _get_reply(ray, reference)
            for message in reply["messages"]:
                self._log_once(message)

            if "failed" in reply:
                self._replace_worker(number, shard_id, reply)
            else:
                self._ready.add(number)
                if shard_id is not None and progress:
                    self._n_failures[number] = 0
                    progress.add(reply["images"], reply["errors"])

            if progress:
                for ready in self._ready:
                    self._assign_shards(ready)

    def _assign_shards(self, number: int) -> None:
        """Assign a worker two shards, or one that was lost before."""
        while True:
            assigned = self._list_assigned(number)
            computes_lost_shard = any(self._n_losses[shard_id] for shard_id in assigned)
            if not assigned and self._retry_queue:
                shard_id = self._retry_queue.popleft()
            elif self._queue and len(assigned) < SHARDS_PER_WORKER and not computes_lost_shard:
                shard_id = self._queue.popleft()
            else:
                return
            self._pending[self._workers[number].do.remote(shard_id)] = (number, shard_id)

    def _list_assigned(self, number: int) -> list[int]:
        pending = self._pending.values()
        return [
            shard_id for worker, shard_id in pending if worker == number and shard_id is not None
        ]

    def _replace_worker(self, number: int, shard_id: int | None, reply: WorkerReply) -> None:
        """Queue the shards of a failed worker again and create another worker.

        Raises:
            PipelineError: Another worker would fail in the same way, or no worker makes progress.
        """
        reason, code = reply["failed"], reply["code"]
        if code in _PERMANENT_EXIT_CODES:
            raise _make_error(reason, code)

        lost = ([] if shard_id is None else [shard_id]) + self._list_assigned(number)
        self._pending = {ref: task for ref, task in self._pending.items() if task[0] != number}
        self._ready.discard(number)
        self._queue_lost_shards(lost, reason)
        with suppress(Exception):
            import_ray().kill(self._workers[number])

        self._n_failures[number] += 1
        if self._n_failures[number] < self.attempts:
            log.warning("Worker %d was lost (%s). Another takes its place.", number, reason)
            self._create(number)
        elif self._has_work() and self._all_workers_fail():
            raise _make_error(
                f"No worker gets any further: {reason} Committed shards are intact.", code
            )

    def _queue_lost_shards(self, shard_ids: Sequence[int], reason: str) -> None:
        for shard_id in shard_ids:
            self._n_losses[shard_id] += 1
            if self._n_losses[shard_id] < self.attempts:
                self._retry_queue.append(shard_id)
            else:
                self.abandoned[shard_id] = reason

    def _all_workers_fail(self) -> bool:
        return all(self._n_failures[number] >= self.attempts for number in range(self.size))

    def _log_once(self, message: str) -> None:
        """Log `LEVEL: text`, once however many workers send it."""
        if message not in self._logged:
            self._logged.add(message)
            level, _, text = message.partition(": ")
            log.log(logging.getLevelNamesMapping().get(level, logging.WARNING), "%s", text)


def _get_reply(ray: Any, reference: Any) -> WorkerReply:
    """Return a worker's reply, or a failure reply for an actor that Ray has lost."""
    try:
        reply: WorkerReply = ray.get(reference)
        return reply
    except ray.exceptions.RayError as error:
        reason = f"its actor was lost: {str(error).splitlines()[0]}"
        return {"messages": [], "failed": reason, "code": 1}


def _make_error(message: str, exit_code: int) -> PipelineError:
    error = PipelineError(message)
    error.exit_code = exit_code
    return error


def import_ray() -> Any:
    """Import Ray. Raises ConfigError if it is not installed."""
    try:
        import ray
    except ImportError:
        raise ConfigError(
            "executor=ray needs Ray: pip install 'visionbatch[ray]', or say executor=local."
        ) from None
    return ray
