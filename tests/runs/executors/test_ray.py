"""Who gets which shard, and what becomes of those of a lost worker.

Here Ray is a few lines that answer at once; the real one is in tests/contract and tests/faults.
"""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.core.errors import ConfigError, PipelineError
from pipeline.runs.executors.ray import NodeResources, Ray, WorkerAllocation, allocate_workers
from pipeline.runs.workers import ray_pool as crew_module
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


def asked(**given: Any) -> Ray:
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
def test_what_is_not_asked_for_follows_from_the_machines(
    nodes: list[NodeResources], given: dict[str, Any], expected: WorkerAllocation
) -> None:
    assert allocate_workers(nodes, asked(**given)) == expected


@pytest.mark.parametrize("given", [{"workers": 3}, {"cpus": 4}, {"gpus": 1}])
def test_more_than_there_is_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"no room for .* the machines have 2 cores and 0 GPUs"):
        allocate_workers([NodeResources(2, 0)], asked(**given))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"workers": 0}, "executor.workers=0"),
        ({"attempts": 1.5}, "attempts"),
        ({"gpus": -1}, "gpus=-1"),
    ],
)
def test_settings_that_cannot_be_are_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        asked(**given)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nonsense"])
def test_a_cluster_that_is_not_there_is_told_at_once(address: str) -> None:
    said = f"address={address}: .*Expected auto, or HOST:PORT"
    with pytest.raises(ConfigError, match=said), asked(address=address)._connect():
        pytest.fail("it was joined")


class Lost(Exception):
    """As Ray's."""


class Hand:
    """An actor. `fate` says what becomes of it with a shard, or, for None, at its start."""

    def __init__(
        self,
        number: int,
        fate: Callable[[int, int | None, list[int]], Any],
        log: list[tuple[int, int]],
    ) -> None:
        self.held: list[int] = []
        self.ready = SimpleNamespace(remote=lambda: (number, None, lambda: fate(number, None, [])))
        self.close = SimpleNamespace(remote=lambda: None)

        def do(shard_id: int) -> Any:
            self.held.append(shard_id)
            log.append((number, len(self.held)))
            held = list(self.held)

            def answer() -> Any:
                found = fate(number, shard_id, held)
                self.held.remove(shard_id)
                return found

            return number, shard_id, answer

        self.do = SimpleNamespace(remote=do)


@pytest.fixture
def crew(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Return crew(fate, shards, size), which runs a worker pool.

    It returns the committed shards, the pool, and (worker, assigned shards) at each assignment.
    """

    def get(reference: Any) -> Any:
        return reference[2]()

    fake = SimpleNamespace(
        wait=lambda refs, timeout, num_returns=1: ([ref for ref in refs if ref][:1], []),
        get=get,
        kill=lambda hand: None,
        exceptions=SimpleNamespace(RayError=Lost),
    )
    monkeypatch.setattr(crew_module, "import_ray", lambda: fake)

    def call(fate: Callable[..., Any], shards: int, size: int = 2) -> Any:
        log: list[tuple[int, int]] = []
        done: list[int] = []
        with DeferredSignals() as signals:
            made = WorkerPool(lambda number: Hand(number, fate, log), size, 3, signals)
            made.start(range(shards))
            made.run(SimpleNamespace(add=lambda images, errors: done.append(images)))  # type: ignore[arg-type]
            made.close()
        return done, made, log

    return call


def good(shard_id: int | None) -> dict[str, Any]:
    return (
        {"messages": []} if shard_id is None else {"messages": [], "images": shard_id, "errors": 0}
    )


def test_every_shard_is_done_once_and_no_worker_has_more_than_two(crew: Callable[..., Any]) -> None:
    done, made, log = crew(lambda number, shard_id, held: good(shard_id), 9)
    assert sorted(done) == list(range(9)) and made.abandoned == {}
    assert max(held for _, held in log) == 2 and {number for number, _ in log} == {0, 1}


def test_a_lost_worker_is_replaced_and_its_shards_are_tried_again_alone(
    crew: Callable[..., Any],
) -> None:
    alone: list[tuple[int, list[int]]] = []
    lost = [3]

    def fate(number: int, shard_id: int | None, held: list[int]) -> Any:
        if shard_id is not None and shard_id in lost:
            lost.remove(shard_id)
            raise Lost("node died")
        if shard_id is not None:
            alone.append((shard_id, held))
        return good(shard_id)

    done, made, _ = crew(fate, 8)
    assert sorted(done) == list(range(8)) and made.abandoned == {}
    assert dict(alone)[3] == [3]


def test_a_shard_that_always_ends_its_worker_is_given_up_and_no_other(
    crew: Callable[..., Any],
) -> None:
    def fate(number: int, shard_id: int | None, held: list[int]) -> Any:
        if shard_id == 3:
            raise Lost("node died")
        return good(shard_id)

    done, made, _ = crew(fate, 12)
    assert sorted(done) == [0, 1, 2, *range(4, 12)]
    assert list(made.abandoned) == [3] and "node died" in made.abandoned[3]


def test_the_last_shard_is_given_up_by_name_too(crew: Callable[..., Any]) -> None:
    def fate(number: int, shard_id: int | None, held: list[int]) -> Any:
        if shard_id == 0:
            raise Lost("node died")
        return good(shard_id)

    done, made, _ = crew(fate, 1, 1)
    assert done == [] and list(made.abandoned) == [0]


@pytest.mark.parametrize(("code", "starts"), [(2, 1), (4, 1), (1, 6)])
def test_what_no_other_worker_would_mend_ends_it_at_once_and_the_rest_soon(
    code: int, starts: int, crew: Callable[..., Any]
) -> None:
    begun = []

    def fate(number: int, shard_id: int | None, held: list[int]) -> Any:
        begun.append(number)
        return {"messages": [], "failed": "no weights", "code": code}

    with pytest.raises(PipelineError, match="no weights") as caught:
        crew(fate, 5)
    assert caught.value.exit_code == code and len(begun) == starts
