"""Shards on the GPUs of this machine, or of a Ray cluster.

Ray places and restarts actors; an actor (`Hand`) holds no model but watches a worker process (`watched.py`), so that an
input that kills or hangs its decoder is found there as in any run. Through Ray go shard ids and counts, nothing else.
"""

import logging
import os
import signal
import socket
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from time import monotonic
from typing import Any

from pipeline.errors import ConfigError, PipelineError
from pipeline.lock import Writer
from pipeline.types import Progress, Work
from pipeline.watched import Answer, WatchedWorker

log = logging.getLogger(__name__)
_IN_HAND = 2  # shards of a worker: it reads ahead into the second while it does the first
_STORE_BYTES = 80 << 20  # of Ray's object store, which holds nothing of ours; Ray takes no less
_TICK_S = 1.0
_LONG_S = 30.0  # without any worker, after which it is said
_CONNECT_S = 10.0
_GRACE_S = 8.0  # for workers to end in order
_PATIENCE_S = 90.0  # for what is left of a driver or worker that has died
# of a Ray of its own: it calls nobody, and listens on 127.0.0.1 only, where the second is the switch; read at the import
_ALONE = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


class Hand:
    """The actor. Its methods are called side by side."""

    def __init__(self, order: Mapping[str, Any], cpus: int, openmp_threads: str | None) -> None:
        """A worker decodes with its share of the cores. The forward pass on a CPU has a thread for every core of the
        machine, as in a run of one process, because oneDNN's sums depend on their number and the bytes must not; threads of
        workers that share cores do not spin."""
        own = {"VISIONBATCH_CORES": str(cpus)}
        os.environ.pop("OMP_NUM_THREADS", None)  # which Ray sets
        if openmp_threads:
            own["OMP_NUM_THREADS"] = openmp_threads
        if cpus < (os.cpu_count() or 1):
            own["GOMP_SPINCOUNT"] = "0"
        self._worker = WatchedWorker(order, own)

    def ready(self) -> Answer:
        return self._worker.ready()

    def do(self, shard_id: int) -> Answer:
        return self._worker.do(shard_id)

    def close(self) -> None:
        self._worker.close()


class Ray:
    """One driver, this process, which plans and reports; workers hold the run folder beside it."""

    writer = Writer("ray-driver", patience=_PATIENCE_S)

    def __init__(
        self, address: str | None, workers: int | None, cpus: int | None, gpus: float | None, attempts: int, dashboard: bool
    ) -> None:
        for name, value in {"workers": workers, "cpus": cpus, "attempts": attempts}.items():
            left_out = value is None and name != "attempts"
            if not left_out and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
                raise ConfigError(f"executor.{name}={value}: expected a whole number, 1 or more, got {value!r}.")
        if gpus is not None and (isinstance(gpus, bool) or not isinstance(gpus, int | float) or gpus < 0):
            raise ConfigError(
                f"executor.gpus={gpus}: expected a number, 0 or more (0.5: two workers on a GPU), got {gpus!r}."
            )
        self.address, self.workers, self.cpus, self.gpus = address, workers, cpus, gpus
        self.attempts, self.dashboard = attempts, dashboard
        if address is None:
            os.environ.update({name: os.environ.get(name, value) for name, value in _ALONE.items()})
        _ray()
        logging.getLogger("ray").setLevel(logging.ERROR)

    def preview(self, work: Work) -> str:
        return ""

    def run(self, shard_ids: Sequence[int], work: Work) -> None:
        order = work.plain()
        with Signals() as signals, self._cluster():
            signals.take()  # from Ray
            each = self._share(on_cpu=order["settings"]["device"] == "cpu")
            log.info("Ray: %d workers, each with %d cores and %g GPUs.", each.workers, each.cpus, each.gpus)
            size = min(each.workers, len(shard_ids))
            crew = Crew(lambda number: _hand(order, number, each), size, self.attempts, signals)
            try:
                crew.begin(shard_ids)
                with work.going() as progress:
                    crew.finish(progress)
            finally:
                crew.close()
        if crew.given_up:
            said = "".join(f"\n  shard {shard_id}: {why}" for shard_id, why in sorted(crew.given_up.items()))
            raise PipelineError(
                f"{len(crew.given_up)} shards were lost {self.attempts} times with their workers and given up; all others "
                f"are committed, and the same command tries these again:{said}"
            )

    @contextmanager
    def _cluster(self) -> Iterator[None]:
        """Connected to Ray, which is stopped afterwards if it was started here."""
        ray = _ray()
        own: dict[str, Any] = {"address": self.address}
        if self.address is None:
            from pipeline.cores import available_cores  # of the driver, which has torch anyway

            own = {"address": "local", "num_cpus": max(available_cores(), self.workers or 1)}
            own |= {"include_dashboard": self.dashboard, "object_store_memory": _STORE_BYTES}
        try:
            if self.address not in (None, "auto"):  # Ray would try for minutes
                host, _, port = str(self.address).rpartition(":")
                socket.create_connection((host, int(port)), _CONNECT_S).close()
            ray.init(**own, log_to_driver=False, configure_logging=False, logging_level=logging.ERROR)
        except (OSError, ValueError, RuntimeError) as error:
            expected = "Expected auto, or HOST:PORT of a cluster that runs; or leave it out."
            raise ConfigError(f"executor.address={self.address}: no Ray could be joined: {error}. {expected}") from None
        try:
            yield
        finally:
            ray.shutdown()

    def _share(self, on_cpu: bool) -> "Share":
        nodes = [node["Resources"] for node in _ray().nodes() if node["Alive"]]
        return share([Node(one.get("CPU", 0), 0 if on_cpu else one.get("GPU", 0)) for one in nodes], self)


@dataclass(frozen=True)
class Node:
    cpus: float
    gpus: float


@dataclass(frozen=True)
class Share:
    """How many workers, and what each of them has."""

    workers: int
    cpus: int
    gpus: float


def share(nodes: Sequence[Node], asked: Ray) -> Share:
    """What was not asked for, from what the machines have: as many cores for each worker as allow for all workers. Raises
    ConfigError where there is no room for them."""
    gpus = asked.gpus if asked.gpus is not None else float(any(node.gpus >= 1 for node in nodes))

    def room(cpus: int) -> int:
        return int(sum(min(node.cpus // cpus, node.gpus // gpus if gpus else node.cpus) for node in nodes))

    workers = asked.workers
    if workers is None:
        usable = sum(node.cpus >= 1 for node in nodes)
        workers = room(asked.cpus or 1) if gpus or asked.cpus else usable
    cpus = asked.cpus or next((n for n in range(int(max(node.cpus for node in nodes)), 1, -1) if room(n) >= workers), 1)
    if not 0 < workers <= room(cpus):
        there = ", ".join(f"{node.cpus:g} cores and {node.gpus:g} GPUs" for node in nodes)
        raise ConfigError(
            f"executor: no room for {max(workers, 1)} workers with {cpus} cores and {gpus:g} GPUs each; the machines have "
            f"{there}. Set fewer executor.workers, cpus or gpus."
        )
    return Share(workers, cpus, gpus)


class Crew:
    """`size` workers, made by `hire`, and the shards they have in hand. What a worker has when it is lost is tried again,
    each shard alone, so that a shard that ends its worker takes no other with it."""

    def __init__(self, hire: Callable[[int], Any], size: int, attempts: int, signals: "Signals") -> None:
        self.hire, self.size, self.attempts, self.signals = hire, size, attempts, signals
        self.given_up: dict[int, str] = {}  # shard_id -> why
        self._hands: dict[int, Any] = {}
        self._asked: dict[Any, tuple[int, int | None]] = {}  # answer to come -> (worker, shard; None: whether it is ready)
        self._ready: set[int] = set()
        self._queue: deque[int] = deque()
        self._alone: deque[int] = deque()
        self._tried: Counter[int] = Counter()  # by shard
        self._fruitless: Counter[int] = Counter()  # by worker, since it committed anything
        self._told: set[str] = set()

    def begin(self, shard_ids: Sequence[int]) -> None:
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

    def finish(self, progress: Progress) -> None:
        for number in self._ready:
            self._give(number)
        while self._left():
            self._next(progress)

    def _left(self) -> bool:
        return bool(self._queue or self._alone) or any(shard_id is not None for _, shard_id in self._asked.values())

    def close(self) -> None:
        """Workers end in order if they do so soon. Those that Ray has lost are gone already."""
        ray = _ray()
        with suppress(Exception):
            ray.wait([hand.close.remote() for hand in self._hands.values()], num_returns=len(self._hands), timeout=_GRACE_S)
        for hand in self._hands.values():
            ray.kill(hand)

    def _hire(self, number: int) -> None:
        self._hands[number] = self.hire(number)
        self._asked[self._hands[number].ready.remote()] = (number, None)

    def _next(self, progress: Progress | None) -> None:
        """What is answered next, within a second."""
        ray = _ray()
        self.signals.obey()
        for answered in ray.wait(list(self._asked), timeout=_TICK_S)[0]:
            number, shard_id = self._asked.pop(answered)
            try:
                answer: Answer = ray.get(answered)
            except ray.exceptions.RayError as error:
                answer = {"said": [], "failed": f"its actor was lost: {str(error).splitlines()[0]}", "code": 1}
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
            held = [shard_id for one, shard_id in self._asked.values() if one == number and shard_id is not None]
            if not held and self._alone:
                shard_id = self._alone.popleft()
            elif self._queue and len(held) < _IN_HAND and not any(self._tried[one] for one in held):
                shard_id = self._queue.popleft()
            else:
                return
            self._asked[self._hands[number].do.remote(shard_id)] = (number, shard_id)

    def _lost(self, number: int, shard_id: int | None, answer: Answer) -> None:
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
            _ray().kill(self._hands[number])
        self._fruitless[number] += 1
        if self._fruitless[number] < self.attempts:
            log.warning("Worker %d was lost (%s). Another takes its place.", number, why)
            self._hire(number)
        elif self._left() and all(self._fruitless[one] >= self.attempts for one in range(self.size)):
            raise _with_code(PipelineError(f"No worker gets any further: {why} Committed shards are intact."), code)

    def _say(self, text: str) -> None:
        """Once, however many workers say it."""
        if text not in self._told:
            self._told.add(text)
            level, _, message = text.partition(": ")
            log.log(logging.getLevelNamesMapping().get(level, logging.WARNING), "%s", message)


class Signals:
    """Kept until the driver can obey: what a handler raises does not come through Ray's own code."""

    def __enter__(self) -> "Signals":
        self._handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        self._came: list[int] = []
        self.take()
        return self

    def take(self) -> None:
        for number in self._handlers:
            signal.signal(number, lambda came, frame: self._came.append(came))

    def obey(self) -> None:
        if self._came:
            signal.signal(self._came[0], self._handlers[signal.Signals(self._came[0])])
            signal.raise_signal(self._came[0])

    def __exit__(self, kind: type[BaseException] | None, error: object, traceback: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        if kind is None:
            self.obey()


def _hand(order: Mapping[str, Any], number: int, each: Share) -> Any:
    own = {**order, "writer": asdict(Writer(f"ray-{number}", "ray-*", _PATIENCE_S))}
    actor = (
        _ray()
        .remote(Hand)
        .options(num_cpus=each.cpus, num_gpus=each.gpus, max_concurrency=_IN_HAND + 2, scheduling_strategy="SPREAD")
    )
    return actor.remote(own, each.cpus, os.environ.get("OMP_NUM_THREADS"))


def _with_code(error: PipelineError, code: int) -> PipelineError:
    error.exit_code = code
    return error


def _ray() -> Any:
    try:
        import ray
    except ImportError:
        raise ConfigError("executor=ray needs Ray: pip install 'visionbatch[ray]', or say executor=local.") from None
    return ray
