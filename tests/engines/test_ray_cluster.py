"""A run on a Ray cluster of three nodes, of which one is killed and one is added meanwhile.

The nodes are processes of this machine. `make test-ray` runs this test; tests with the real Ray of
one node are in tests/contract and tests/faults.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.results.commands.verify import verify_run
from pipeline.run import run
from tests.contract.test_contract import parts_of
from tests.engines.processes import wait_until
from tests.engines.slow_commits import write_slow_commits
from tests.helpers.paths import REPOSITORY, SAMPLES
from tests.helpers.runs import read, settings_for

pytestmark = pytest.mark.ray_cluster

COMMON = ("model=codes", "overlays=false", "shard_size=2", "log_level=warning")
NODE = {"num_cpus": 1, "object_store_memory": 80 << 20}
N_SHARDS = 24  # of four copies of the twelve sample images


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    for i in range(4):
        shutil.copytree(SAMPLES, folder / str(i), ignore=shutil.ignore_patterns("*.json"))
    return folder


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Start a head and two more nodes, on which every commit takes two seconds."""
    slow = write_slow_commits(tmp_path / "slow", 2)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(REPOSITORY), str(slow)]))
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    from ray.cluster_utils import Cluster

    started = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    try:
        for _ in range(2):
            started.add_node(**NODE)
        yield started
    finally:
        started.shutdown()


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")
@pytest.mark.filterwarnings(
    "ignore::FutureWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
def test_a_node_is_killed_and_another_added(cluster: Any, images: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    words = [*COMMON, f"input={images}", "executor=ray", f"executor.address={cluster.address}"]
    command = [sys.executable, "-m", "pipeline", "run", *words, f"output={output}"]
    process = subprocess.Popen(
        command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )

    def n_committed() -> int:
        return len(list(output.glob("detect-codes-*/_committed/*.json")))

    wait_until(lambda: n_committed() >= 4 or process.poll() is not None, 240)
    node = next(node for node in cluster.worker_nodes if has_worker(node))
    cluster.remove_node(node, allow_graceful=False)
    assert process.poll() is None and n_committed() < N_SHARDS // 2
    cluster.add_node(**NODE)

    said = process.communicate(timeout=400)
    assert process.returncode == 0 and "Traceback" not in said[1], said
    assert "was lost" in said[1] and "Another takes its place" in said[1], said
    run(settings_for(*COMMON, f"input={images}", f"output={tmp_path / 'alone'}"))
    folder = (output / "latest").resolve()
    assert parts_of(folder) == parts_of((tmp_path / "alone" / "latest").resolve())
    ids = read(folder, "images")["image_id"].to_pylist()
    assert ids == list(range(len(ids))) and "one row each" in verify_run(folder)


def has_worker(node: Any) -> bool:
    """Return whether a node runs an actor: one of its raylet's children is named like it."""
    (raylet,) = (info.process.pid for info in node.all_processes["raylet"])
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            name = (path / "cmdline").read_bytes()
        except OSError:  # the process has ended
            continue
        if parent == raylet and name.startswith(b"ray::RayActor"):
            return True
    return False
