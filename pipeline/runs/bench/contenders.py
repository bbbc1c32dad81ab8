"""What is measured: the loops that people write, this pipeline, and its two halves alone. Each returns the time that its
images took, everything loaded before."""

import shutil
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp

from torch.utils.data import DataLoader

from pipeline.config.settings import Settings
from pipeline.core.errors import ConfigError
from pipeline.core.locations import Uri, parse_location
from pipeline.core.types import Batch, Entry, Shard
from pipeline.inference.predictor import Predictor
from pipeline.runs.bench.baseline import PlainModel
from pipeline.runs.bench.repeated_inputs import RepeatedSource
from pipeline.runs.components import Components
from pipeline.runs.plan_freezing import freeze_plan
from pipeline.runs.progress import ProgressBar
from pipeline.runs.run_folder import RunFolder
from pipeline.runs.shard_writer import ShardRunner

_MOST_BYTES = 1 << 30  # of inputs kept for the forward pass alone


@dataclass(frozen=True)
class Measurement:
    """`core_seconds` is the time of all this process's threads."""

    images: int
    seconds: float
    core_seconds: float

    @property
    def rate(self) -> float:
        return self.images / self.seconds


@dataclass(frozen=True)
class LoadedEngine:
    """The model in the hands of one engine. `ready_s`: seconds to load it."""

    settings: Settings
    parts: Components
    source: RepeatedSource
    predictor: Predictor
    ready_s: float

    @property
    def entries(self) -> Sequence[Entry]:
        return self.source.listed


def measure(images: int, work: Callable[[], object]) -> Measurement:
    wall, cores = time.perf_counter(), time.process_time()
    work()
    return Measurement(images, time.perf_counter() - wall, time.process_time() - cores)


def measure_plain_loop(tutorial: PlainModel) -> Measurement:
    """One image at a time, as every tutorial shows it."""

    def work() -> None:
        for i in range(len(tutorial.reader)):
            tutorial.predict([tutorial.reader[i]])

    return measure(len(tutorial.reader), work)


def measure_plain_dataloader(tutorial: PlainModel, batch_size: int) -> Measurement:
    """torch's DataLoader with two worker processes and whatever images come next in a batch."""
    loader = DataLoader(tutorial.reader, batch_size=batch_size, num_workers=2, collate_fn=list)
    return measure(len(tutorial.reader), lambda: deque(map(tutorial.predict, loader), maxlen=0))


def measure_pipeline(one: LoadedEngine) -> Measurement:
    """From files to committed Parquet."""
    where = parse_location(one.settings.output)
    if isinstance(where, Uri):
        raise ConfigError(
            f"output={where}: bench measures with a disk; name a folder of this machine."
        )
    root = Path(mkdtemp(prefix="bench-", dir=where))
    folder = RunFolder(root)
    try:
        with folder.lock():
            plan = freeze_plan(folder, one.source, one.settings.shard_size, None, False)
            runner = ShardRunner(
                plan,
                folder,
                one.predictor,
                one.parts.sinks,
                ProgressBar(0, plan.n_images, quiet=True),
            )
            return measure(len(one.entries), lambda: runner.run(range(plan.n_shards)))
    finally:
        shutil.rmtree(root)


def measure_forward(one: LoadedEngine) -> Measurement:
    """The engine on inputs that are ready: as many as a gigabyte holds."""
    kept: list[Batch] = []
    size = 0
    for batch in _batches(one):
        kept.append(batch)
        size += sum(each.pixels.nbytes for each in batch.inputs)
        if size > _MOST_BYTES:
            break

    def work() -> None:
        for batch in kept:
            if batch.inputs:
                one.predictor.engine.forward(
                    [each.pixels for each in batch.inputs], [each.size_hw for each in batch.inputs]
                )

    return measure(sum(len(batch.items) for batch in kept), work)


def measure_decoding(one: LoadedEngine) -> Measurement:
    """Read, decode and transform in the pipeline's own threads; nothing waits for a model."""
    return measure(len(one.entries), lambda: deque(_batches(one), maxlen=0))


def _batches(one: LoadedEngine) -> Iterator[Batch]:
    return one.predictor.load_batches([Shard(0, 0, tuple(one.entries))])
