"""Shards on the GPUs of this machine, or of a Ray cluster.

Ray places and restarts actors; an actor (`Hand`) holds no model but watches a worker process (`watched.py`), so that an
input that kills or hangs its decoder is found there as in any run. Through Ray go shard ids and counts, nothing else.
"""

import logging
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from pipeline.core.errors import ConfigError, PipelineError
from pipeline.core.protocols import Work
from pipeline.core.types import Writer
from pipeline.runs.workers.ray_pool import (
    SHARDS_PER_WORKER,
    DeferredSignals,
    WorkerPool,
    import_ray,
)
from pipeline.runs.workers.supervised_worker import SupervisedWorker, WorkerReply

log = logging.getLogger(__name__)
_STORE_BYTES = 80 << 20  # of Ray's object store, which holds nothing of ours; Ray takes no less
_CONNECT_S = 10.0
_PATIENCE_S = 90.0  # for what is left of a driver or worker that has died
# of a Ray of its own: it calls nobody, and listens on 127.0.0.1 only, where the second is the switch; read at the import
_ALONE = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


class RayActor:
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
        self._worker = SupervisedWorker(order, own)

    def ready(self) -> WorkerReply:
        return self._worker.ready()

    def do(self, shard_id: int) -> WorkerReply:
        return self._worker.do(shard_id)

    def close(self) -> None:
        self._worker.close()


class Ray:
    """One driver, this process, which plans and reports; workers hold the run folder beside it."""

    writer = Writer("ray-driver", patience_s=_PATIENCE_S)

    def __init__(
        self,
        address: str | None,
        workers: int | None,
        cpus: int | None,
        gpus: float | None,
        attempts: int,
        dashboard: bool,
    ) -> None:
        for name, value in {"workers": workers, "cpus": cpus, "attempts": attempts}.items():
            left_out = value is None and name != "attempts"
            if not left_out and (
                not isinstance(value, int) or isinstance(value, bool) or value < 1
            ):
                raise ConfigError(
                    f"executor.{name}={value}: expected a whole number, 1 or more, got {value!r}."
                )
        if gpus is not None and (
            isinstance(gpus, bool) or not isinstance(gpus, int | float) or gpus < 0
        ):
            raise ConfigError(
                f"executor.gpus={gpus}: expected a number, 0 or more (0.5: two workers on a GPU), got {gpus!r}."
            )
        self.address, self.workers, self.cpus, self.gpus = address, workers, cpus, gpus
        self.attempts, self.dashboard = attempts, dashboard
        if address is None:
            os.environ.update({name: os.environ.get(name, value) for name, value in _ALONE.items()})
        import_ray()
        logging.getLogger("ray").setLevel(logging.ERROR)

    def preview(self, work: Work) -> str:
        return ""

    def run(self, shard_ids: Sequence[int], work: Work) -> None:
        order = work.plain()
        with DeferredSignals() as signals, self._cluster():
            signals.install()  # from Ray
            each = self._share(on_cpu=order["settings"]["device"] == "cpu")
            log.info(
                "Ray: %d workers, each with %d cores and %g GPUs.",
                each.workers,
                each.cpus,
                each.gpus,
            )
            size = min(each.workers, len(shard_ids))
            crew = WorkerPool(
                lambda number: _hand(order, number, each), size, self.attempts, signals
            )
            try:
                crew.start(shard_ids)
                with work.going() as progress:
                    crew.run(progress)
            finally:
                crew.close()
        if crew.given_up:
            said = "".join(
                f"\n  shard {shard_id}: {why}" for shard_id, why in sorted(crew.given_up.items())
            )
            raise PipelineError(
                f"{len(crew.given_up)} shards were lost {self.attempts} times with their workers and given up; all others "
                f"are committed, and the same command tries these again:{said}"
            )

    @contextmanager
    def _cluster(self) -> Iterator[None]:
        """Connected to Ray, which is stopped afterwards if it was started here."""
        ray = import_ray()
        own: dict[str, Any] = {"address": self.address}
        if self.address is None:
            from pipeline.core.cpu import (
                count_available_cores,  # of the driver, which has torch anyway
            )

            own = {"address": "local", "num_cpus": max(count_available_cores(), self.workers or 1)}
            own |= {"include_dashboard": self.dashboard, "object_store_memory": _STORE_BYTES}
        try:
            if self.address not in (None, "auto"):  # Ray would try for minutes
                host, _, port = str(self.address).rpartition(":")
                socket.create_connection((host, int(port)), _CONNECT_S).close()
            ray.init(
                **own, log_to_driver=False, configure_logging=False, logging_level=logging.ERROR
            )
        except (OSError, ValueError, RuntimeError) as error:
            expected = "Expected auto, or HOST:PORT of a cluster that runs; or leave it out."
            raise ConfigError(
                f"executor.address={self.address}: no Ray could be joined: {error}. {expected}"
            ) from None
        try:
            yield
        finally:
            ray.shutdown()

    def _share(self, on_cpu: bool) -> "WorkerAllocation":
        nodes = [node["Resources"] for node in import_ray().nodes() if node["Alive"]]
        return allocate_workers(
            [NodeResources(one.get("CPU", 0), 0 if on_cpu else one.get("GPU", 0)) for one in nodes],
            self,
        )


@dataclass(frozen=True)
class NodeResources:
    cpus: float
    gpus: float


@dataclass(frozen=True)
class WorkerAllocation:
    """How many workers, and what each of them has."""

    workers: int
    cpus: int
    gpus: float


def allocate_workers(nodes: Sequence[NodeResources], asked: Ray) -> WorkerAllocation:
    """What was not asked for, from what the machines have: as many cores for each worker as allow for all workers. Raises
    ConfigError where there is no room for them."""
    gpus = asked.gpus if asked.gpus is not None else float(any(node.gpus >= 1 for node in nodes))

    def room(cpus: int) -> int:
        return int(
            sum(min(node.cpus // cpus, node.gpus // gpus if gpus else node.cpus) for node in nodes)
        )

    workers = asked.workers
    if workers is None:
        usable = sum(node.cpus >= 1 for node in nodes)
        workers = room(asked.cpus or 1) if gpus or asked.cpus else usable
    cpus = asked.cpus or next(
        (n for n in range(int(max(node.cpus for node in nodes)), 1, -1) if room(n) >= workers), 1
    )
    if not 0 < workers <= room(cpus):
        there = ", ".join(f"{node.cpus:g} cores and {node.gpus:g} GPUs" for node in nodes)
        raise ConfigError(
            f"executor: no room for {max(workers, 1)} workers with {cpus} cores and {gpus:g} GPUs each; the machines have "
            f"{there}. Set fewer executor.workers, cpus or gpus."
        )
    return WorkerAllocation(workers, cpus, gpus)


def _hand(order: Mapping[str, Any], number: int, each: WorkerAllocation) -> Any:
    own = {**order, "writer": asdict(Writer(f"ray-{number}", "ray-*", _PATIENCE_S))}
    actor = (
        import_ray()
        .remote(RayActor)
        .options(
            num_cpus=each.cpus,
            num_gpus=each.gpus,
            max_concurrency=SHARDS_PER_WORKER + 2,
            scheduling_strategy="SPREAD",
        )
    )
    return actor.remote(own, each.cpus, os.environ.get("OMP_NUM_THREADS"))
