"""Measure planning: `python -m tests.runs.plan_benchmark FOLDER [KEYS] [SHARD_SIZE]`.

Plans a generated listing of KEYS (10,000,000) keys, cuts it into shards, lists it again as a
resumed run does, and counts what is left with half of the shards committed. Prints, as JSON,
seconds, bytes on disk and peak memory.
"""

import json
import random
import resource
import sys
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter

from pipeline.core.shard_names import make_marker_name
from pipeline.core.types import Entry
from pipeline.runs.plan import load_plan
from pipeline.runs.plan_freezing import freeze_plan
from pipeline.runs.run_folder import RunFolder

_FOLDER = 1000  # keys in a folder


class Generated:
    """A source that only lists entries. Its keys are as long as those of cameras."""

    identity, columns = "generated:listing", ()

    def __init__(self, count: int) -> None:
        self.count = count

    def entries(self) -> Iterator[Entry]:
        for i in range(self.count):
            key = f"site-{i // _FOLDER // 100:05d}/camera-{i // _FOLDER % 100:02d}/IMG_{i:010d}.jpg"
            yield Entry(key, 1_000_000 + i % 999_983, 1_700_000_000_000_000_000 + i * 1_000_003)


def measure_peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main(folder: str, keys: str = "10_000_000", shard_size: str = "256") -> None:
    source, run = Generated(int(keys)), RunFolder(Path(folder) / "run")
    figures: dict[str, float] = {
        "keys": source.count,
        "shard_size": int(shard_size),
        "before_mb": measure_peak_bytes() / 1e6,
    }

    def timed(name: str, start: float) -> None:
        figures[f"{name}_s"], figures[f"{name}_peak_mb"] = (
            round(perf_counter() - start, 2),
            round(measure_peak_bytes() / 1e6),
        )

    start = perf_counter()
    plan = freeze_plan(run, source, int(shard_size), None, False)  # type: ignore[arg-type]
    timed("plan", start)
    figures["shards"], figures["parts"] = plan.n_shards, len(plan.parts)
    figures["plan_mb"] = sum(path.stat().st_size for path in (run.path / "plan").iterdir()) / 1e6
    (run.path / "_committed").mkdir()
    for shard_id in range(0, plan.n_shards, 2):
        marker = {"shard": shard_id, "images": int(shard_size), "parts": {}, "other_files": 0}
        (run.path / make_marker_name(shard_id)).write_text(json.dumps(marker))
    start = perf_counter()
    freeze_plan(run, source, int(shard_size), None, False)  # type: ignore[arg-type]
    timed("list_again", start)
    start = perf_counter()
    plan = load_plan(run)
    run.check_parts()
    figures["left"] = plan.n_shards - len(run.committed_shards())
    timed("open_and_count", start)
    chosen = random.Random(0).choices(range(plan.n_shards), k=100)
    start = perf_counter()
    read = sum(len(plan.read_shard(shard_id)) for shard_id in chosen)
    figures["shard_ms"], figures["images_in_100_shards"] = (
        round((perf_counter() - start) * 10, 2),
        read,
    )
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main(*sys.argv[1:])
