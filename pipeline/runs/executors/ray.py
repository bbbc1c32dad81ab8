"""Compute shards on the GPUs of this machine or of a Ray cluster.

Ray places and restarts actors. An actor has no model. It supervises a worker process, so that an
input that crashes or hangs the decoder is found as in a local run. Only shard ids and counts pass
through Ray.
"""

import logging
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import Any

from pipeline.core.errors import ConfigError, PipelineError
from pipeline.core.protocols import ExecutionResult, ShardJob
from pipeline.core.types import Writer
from pipeline.runs.workers.deferred_signals import DeferredSignals
from pipeline.runs.workers.ray_pool import SHARDS_PER_WORKER, WorkerPool, import_ray
from pipeline.runs.workers.supervised_worker import SupervisedWorker, WorkerReply

log = logging.getLogger(__name__)
_OBJECT_STORE_BYTES = 80 << 20  # Ray's minimum; the pipeline stores nothing in it
_CONNECT_S = 10.0
_LOCK_PATIENCE_S = 90.0  # for the lock of a driver or worker that has died
# A Ray that this process starts sends no usage statistics and listens on 127.0.0.1 only, which is
# what the second variable does. Ray reads them when it is imported.
_LOCAL_RAY_VARIABLES = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


class RayActor:
    """Supervises one worker process. Ray calls its methods in several threads at once."""

    def __init__(self, order: Mapping[str, Any], cpus: int, openmp_threads: str | None) -> None:
        """Start a worker that decodes with its share of the cores.

        On a CPU the forward pass has a thread for every core of the machine, as in a run of one
        process, because oneDNN's sums depend on the number of threads and results must not. Threads
        of workers that share cores do not spin.
        """
        environment = {"VISIONBATCH_CORES": str(cpus)}
        os.environ.pop("OMP_NUM_THREADS", None)  # Ray sets it
        if openmp_threads:
            environment["OMP_NUM_THREADS"] = openmp_threads
        if cpus < (os.cpu_count() or 1):
            environment["GOMP_SPINCOUNT"] = "0"
        self._worker = SupervisedWorker(order, environment)

    def ready(self) -> WorkerReply:
        return self._worker.ready()

    def do(self, shard_id: int) -> WorkerReply:
        return self._worker.do(shard_id)

    def close(self) -> None:
        self._worker.close()


class Ray:
    """Plans and reports in this process and lets Ray actors compute the shards.

    Args:
        address: `auto` or HOST:PORT of a running cluster; None starts Ray on this machine.
        workers: Number of workers; None: chosen from the machines.
        cpus: Cores of each worker; None: chosen from the machines.
        gpus: GPUs of each worker, also a fraction; None: one if there are any.
        attempts: Workers that one shard may lose.
        dashboard: Start Ray's dashboard.

    Raises:
        ConfigError: A setting is impossible, or Ray is not installed.
    """

    writer = Writer("ray-driver", patience_s=_LOCK_PATIENCE_S)

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
            is_optional = name != "attempts"
            if not _is_positive_integer(value) and not (value is None and is_optional):
                raise ConfigError(
                    f"executor.{name}={value}: expected a whole number, 1 or more, got {value!r}."
                )
        is_number = isinstance(gpus, int | float) and not isinstance(gpus, bool)
        if gpus is not None and (not is_number or gpus < 0):
            raise ConfigError(
                f"executor.gpus={gpus}: expected a number, 0 or more (0.5: two workers on a GPU), "
                f"got {gpus!r}."
            )
        self.address, self.workers, self.cpus, self.gpus = address, workers, cpus, gpus
        self.attempts, self.dashboard = attempts, dashboard
        if address is None:
            for variable, default in _LOCAL_RAY_VARIABLES.items():
                os.environ.setdefault(variable, default)
        import_ray()
        logging.getLogger("ray").setLevel(logging.ERROR)

    def preview(self, order: Mapping[str, Any]) -> str:
        return ""

    def run(self, shard_ids: Sequence[int], job: ShardJob) -> ExecutionResult:
        """Compute the shards. Raises PipelineError for shards that have lost `attempts` workers."""
        order = job.order
        with DeferredSignals() as signals, self._connect():
            signals.install()  # Ray has installed its own handlers
            allocation = self._allocate_workers(on_cpu=order["settings"]["device"] == "cpu")
            log.info(
                "Ray: %d workers, each with %d cores and %g GPUs.",
                allocation.workers,
                allocation.cpus,
                allocation.gpus,
            )
            pool = WorkerPool(
                lambda number: _create_actor(order, number, allocation),
                min(allocation.workers, len(shard_ids)),
                self.attempts,
                signals,
            )
            try:
                pool.start(shard_ids)
                with job.show_progress() as progress:
                    start = perf_counter()
                    pool.run(progress)
                    seconds = perf_counter() - start
            finally:
                pool.close()
        self._check_all_committed(pool.abandoned)
        return ExecutionResult(images=progress.images, seconds=seconds)

    def _check_all_committed(self, abandoned: Mapping[int, str]) -> None:
        if abandoned:
            listed = "".join(
                f"\n  shard {shard_id}: {reason}" for shard_id, reason in sorted(abandoned.items())
            )
            raise PipelineError(
                f"{len(abandoned)} shards were lost {self.attempts} times with their workers and "
                "given up; all others "
                f"are committed, and the same command tries these again:{listed}"
            )

    @contextmanager
    def _connect(self) -> Iterator[None]:
        """Connect to a cluster, or start Ray here and stop it afterwards. Raises ConfigError."""
        ray = import_ray()
        options: dict[str, Any] = {"address": self.address}
        if self.address is None:
            # Imported here, because the actors import this module and need no torch.
            from pipeline.core.cpu import count_available_cores

            options = {
                "address": "local",
                "num_cpus": max(count_available_cores(), self.workers or 1),
                "include_dashboard": self.dashboard,
                "object_store_memory": _OBJECT_STORE_BYTES,
            }
        try:
            if self.address not in (None, "auto"):  # Ray would try for minutes
                host, _, port = str(self.address).rpartition(":")
                socket.create_connection((host, int(port)), _CONNECT_S).close()
            ray.init(
                **options, log_to_driver=False, configure_logging=False, logging_level=logging.ERROR
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

    def _allocate_workers(self, on_cpu: bool) -> "WorkerAllocation":
        resources = [node["Resources"] for node in import_ray().nodes() if node["Alive"]]
        nodes = [
            NodeResources(node.get("CPU", 0), 0 if on_cpu else node.get("GPU", 0))
            for node in resources
        ]
        return allocate_workers(nodes, self)


def _is_positive_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


@dataclass(frozen=True)
class NodeResources:
    """Cores and GPUs of one machine of the cluster."""

    cpus: float
    gpus: float


@dataclass(frozen=True)
class WorkerAllocation:
    """The number of workers, and the cores and GPUs of each."""

    workers: int
    cpus: int
    gpus: float


def allocate_workers(nodes: Sequence[NodeResources], requested: Ray) -> WorkerAllocation:
    """Choose the values that were not requested.

    Each worker gets the most cores with which all workers still fit on the machines.

    Raises:
        ConfigError: The machines have no room for the requested workers.
    """
    gpus = requested.gpus
    if gpus is None:
        gpus = float(any(node.gpus >= 1 for node in nodes))

    def count_workers(cpus: int) -> int:
        """Return how many workers with `cpus` cores each fit on the machines."""
        limits = (
            min(node.cpus // cpus, node.gpus // gpus if gpus else node.cpus) for node in nodes
        )
        return int(sum(limits))

    workers = requested.workers
    if workers is None:
        n_usable = sum(node.cpus >= 1 for node in nodes)
        workers = count_workers(requested.cpus or 1) if gpus or requested.cpus else n_usable

    most_cpus = int(max(node.cpus for node in nodes))
    candidates = (cpus for cpus in range(most_cpus, 1, -1) if count_workers(cpus) >= workers)
    cpus = requested.cpus or next(candidates, 1)
    if not 0 < workers <= count_workers(cpus):
        machines = ", ".join(f"{node.cpus:g} cores and {node.gpus:g} GPUs" for node in nodes)
        raise ConfigError(
            f"executor: no room for {max(workers, 1)} workers with {cpus} cores and {gpus:g} GPUs "
            "each; the machines have "
            f"{machines}. Set fewer executor.workers, cpus or gpus."
        )
    return WorkerAllocation(workers, cpus, gpus)


def _create_actor(order: Mapping[str, Any], number: int, allocation: WorkerAllocation) -> Any:
    writer = Writer(f"ray-{number}", "ray-*", _LOCK_PATIENCE_S)
    actor_class = (
        import_ray()
        .remote(RayActor)
        .options(
            num_cpus=allocation.cpus,
            num_gpus=allocation.gpus,
            max_concurrency=SHARDS_PER_WORKER + 2,  # `do` of each shard, `ready` and `close`
            scheduling_strategy="SPREAD",
        )
    )
    worker_order = {**order, "writer": asdict(writer)}
    return actor_class.remote(worker_order, allocation.cpus, os.environ.get("OMP_NUM_THREADS"))
