"""Distribution of shards to Ray workers, and recovery of the shards of a lost worker.

Ray is replaced by a fake that replies at once. Tests with the real Ray are in tests/contract and
tests/faults.
"""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.core.errors import ConfigError, PipelineError
from pipeline.runs.executors.ray import NodeResources, Ray, WorkerAllocation, allocate_workers
from pipeline.runs.workers import ray_pool
from pipeline.runs.workers.deferred_signals import DeferredSignals
from pipeline.runs.workers.ray_pool import WorkerPool

GPU_NODES = [NodeResources(32, 4), NodeResources(64, 8)]
GIVEN: dict[str, Any] = {
    "address": None,
    "workers": None,
    "cpus": None,
    "gpus": None,
    "attempts": 3,
    "dashboard": False,
}


def make_executor(**given: Any) -> Ray:
    return Ray(**{**GIVEN, **given})


@pytest.mark.parametrize(
    ("nodes", "given", "expected"),
    [
        ([NodeResources(2, 0)], {}, WorkerAllocation(1, 2, 0)),
        ([NodeResources(2, 0)], {"workers": 2}, WorkerAllocation(2, 1, 0)),
        ([NodeResources(8, 0), NodeResources(16, 0)], {}, WorkerAllocation(2, 8, 0)),
        ([NodeResources(8, 0), NodeResources(16, 0)], {"cpus": 4}, WorkerAllocation(6, 4, 0)),
        ([NodeResources(8, 0), NodeResources(16, 0)], {"workers": 3}, WorkerAllocation(3, 8, 0)),
        (GPU_NODES, {}, WorkerAllocation(12, 8, 1)),
        (GPU_NODES, {"workers": 4}, WorkerAllocation(4, 21, 1)),
        (GPU_NODES, {"gpus": 0.5}, WorkerAllocation(24, 4, 0.5)),
        (GPU_NODES, {"gpus": 0}, WorkerAllocation(2, 32, 0)),
        ([NodeResources(0, 0), NodeResources(4, 0)], {}, WorkerAllocation(1, 4, 0)),
    ],
)
def test_settings_that_are_left_out_follow_from_the_machines(
    nodes: list[NodeResources], given: dict[str, Any], expected: WorkerAllocation
) -> None:
    assert allocate_workers(nodes, make_executor(**given)) == expected


@pytest.mark.parametrize("given", [{"workers": 3}, {"cpus": 4}, {"gpus": 1}])
def test_more_than_the_machines_have_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"no room for .* the machines have 2 cores and 0 GPUs"):
        allocate_workers([NodeResources(2, 0)], make_executor(**given))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"workers": 0}, "executor.workers=0"),
        ({"attempts": 1.5}, "attempts"),
        ({"gpus": -1}, "gpus=-1"),
    ],
)
def test_impossible_settings_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_executor(**given)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nonsense"])
def test_a_missing_cluster_is_reported_at_once(address: str) -> None:
    message = f"address={address}: .*Expected auto, or HOST:PORT"
    with pytest.raises(ConfigError, match=message), make_executor(address=address)._connect():
        pytest.fail("Ray was joined")


class FakeRayError(Exception):
    """Stands in for ray.exceptions.RayError."""


class FakeActor:
    """A fake actor. `fate` returns its reply or raises, for a shard or (None) for its start."""

    def __init__(
        self,
        number: int,
        fate: Callable[[int, int | None, list[int]], Any],
        log: list[tuple[int, int]],
    ) -> None:
        self.assigned: list[int] = []
        self.ready = SimpleNamespace(remote=lambda: (number, None, lambda: fate(number, None, [])))
        self.close = SimpleNamespace(remote=lambda: None)

        def do(shard_id: int) -> Any:
            self.assigned.append(shard_id)
            log.append((number, len(self.assigned)))
            assigned = list(self.assigned)

            def make_answer() -> Any:
                reply = fate(number, shard_id, assigned)
                self.assigned.remove(shard_id)
                return reply

            return number, shard_id, make_answer

        self.do = SimpleNamespace(remote=do)


@pytest.fixture
def run_pool(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Return crew(fate, shards, size), which runs a worker pool.

    It returns the committed shards, the pool, and (worker, assigned shards) at each assignment.
    """

    def get(reference: Any) -> Any:
        return reference[2]()

    fake = SimpleNamespace(
        wait=lambda refs, timeout, num_returns=1: ([ref for ref in refs if ref][:1], []),
        get=get,
        kill=lambda hand: None,
        exceptions=SimpleNamespace(RayError=FakeRayError),
    )
    monkeypatch.setattr(ray_pool, "import_ray", lambda: fake)

    def call(fate: Callable[..., Any], shards: int, size: int = 2) -> Any:
        log: list[tuple[int, int]] = []
        committed: list[int] = []
        with DeferredSignals() as signals:
            pool = WorkerPool(lambda number: FakeActor(number, fate, log), size, 3, signals)
            pool.start(range(shards))
            pool.run(SimpleNamespace(add=lambda images, errors: committed.append(images)))  # type: ignore[arg-type]
            pool.close()
        return committed, pool, log

    return call


def make_reply(shard_id: int | None) -> dict[str, Any]:
    return (
        {"messages": []} if shard_id is None else {"messages": [], "images": shard_id, "errors": 0}
    )


def test_every_shard_is_done_once_and_no_worker_has_more_than_two(
    run_pool: Callable[..., Any],
) -> None:
    committed, pool, log = run_pool(lambda number, shard_id, assigned: make_reply(shard_id), 9)
    assert sorted(committed) == list(range(9)) and pool.abandoned == {}
    assert max(assigned for _, assigned in log) == 2 and {number for number, _ in log} == {0, 1}


def test_a_lost_worker_is_replaced_and_its_shards_are_tried_again_alone(
    run_pool: Callable[..., Any],
) -> None:
    alone: list[tuple[int, list[int]]] = []
    lost = [3]

    def fate(number: int, shard_id: int | None, assigned: list[int]) -> Any:
        if shard_id is not None and shard_id in lost:
            lost.remove(shard_id)
            raise FakeRayError("node died")
        if shard_id is not None:
            alone.append((shard_id, assigned))
        return make_reply(shard_id)

    committed, pool, _ = run_pool(fate, 8)
    assert sorted(committed) == list(range(8)) and pool.abandoned == {}
    assert dict(alone)[3] == [3]


def test_a_shard_that_always_ends_its_worker_is_given_up_and_no_other(
    run_pool: Callable[..., Any],
) -> None:
    def fate(number: int, shard_id: int | None, assigned: list[int]) -> Any:
        if shard_id == 3:
            raise FakeRayError("node died")
        return make_reply(shard_id)

    committed, pool, _ = run_pool(fate, 12)
    assert sorted(committed) == [0, 1, 2, *range(4, 12)]
    assert list(pool.abandoned) == [3] and "node died" in pool.abandoned[3]


def test_the_last_shard_is_given_up_by_name_too(run_pool: Callable[..., Any]) -> None:
    def fate(number: int, shard_id: int | None, assigned: list[int]) -> Any:
        if shard_id == 0:
            raise FakeRayError("node died")
        return make_reply(shard_id)

    committed, pool, _ = run_pool(fate, 1, 1)
    assert committed == [] and list(pool.abandoned) == [0]


@pytest.mark.parametrize(("code", "starts"), [(2, 1), (4, 1), (1, 6)])
def test_permanent_errors_end_the_run_at_once_and_others_after_retries(
    code: int, starts: int, run_pool: Callable[..., Any]
) -> None:
    started = []

    def fate(number: int, shard_id: int | None, assigned: list[int]) -> Any:
        started.append(number)
        return {"messages": [], "failed": "no weights", "code": code}

    with pytest.raises(PipelineError, match="no weights") as caught:
        run_pool(fate, 5)
    assert caught.value.exit_code == code and len(started) == starts
