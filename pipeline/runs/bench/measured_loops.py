"""The loops to measure: plain PyTorch loops, this pipeline, decoding alone and forward alone.

Each function returns a `Measurement`, which does not include the loading of the model.
"""

import shutil
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp

from torch.utils.data import DataLoader

from pipeline.config.settings import Settings
from pipeline.core.errors import ConfigError
from pipeline.core.locations import Uri, parse_location
from pipeline.core.types import Batch, Entry, Shard
from pipeline.inference.predictor import Predictor
from pipeline.runs.bench.plain_model import PlainModel
from pipeline.runs.bench.repeated_inputs import RepeatedSource
from pipeline.runs.components import Components
from pipeline.runs.plan_freezing import freeze_plan
from pipeline.runs.progress import ProgressBar
from pipeline.runs.run_folder import RunFolder
from pipeline.runs.shard_writer import ShardRunner

_MAX_KEPT_BYTES = 1 << 30  # of inputs in memory while the forward pass alone is measured


@dataclass(frozen=True)
class Measurement:
    """Images and time of one pass.

    `core_seconds` is the CPU time of all threads of this process.
    """

    images: int
    seconds: float
    core_seconds: float

    @property
    def rate(self) -> float:
        return self.images / self.seconds


@dataclass(frozen=True)
class LoadedEngine:
    """A model prepared by one engine. Loading it took `load_s` seconds."""

    settings: Settings
    parts: Components
    source: RepeatedSource
    predictor: Predictor
    load_s: float

    @property
    def entries(self) -> Sequence[Entry]:
        return self.source.listed


def measure(images: int, work: Callable[[], object]) -> Measurement:
    """Call `work`, which processes `images` images, and measure it."""
    wall, cores = time.perf_counter(), time.process_time()
    work()
    return Measurement(images, time.perf_counter() - wall, time.process_time() - cores)


def measure_plain_loop(plain_model: PlainModel) -> Measurement:
    """Measure a loop over single images, like the loops in tutorials."""

    def work() -> None:
        for i in range(len(plain_model.reader)):
            plain_model.predict([plain_model.reader[i]])

    return measure(len(plain_model.reader), work)


def measure_plain_dataloader(plain_model: PlainModel, batch_size: int) -> Measurement:
    """Measure a loop over torch's DataLoader with two worker processes, batching in input order."""
    loader = DataLoader(plain_model.reader, batch_size=batch_size, num_workers=2, collate_fn=list)
    return measure(
        len(plain_model.reader), lambda: deque(map(plain_model.predict, loader), maxlen=0)
    )


def measure_pipeline(engine: LoadedEngine) -> Measurement:
    """Measure the pipeline from files to committed Parquet."""
    output = parse_location(engine.settings.output)
    if isinstance(output, Uri):
        raise ConfigError(
            f"output={output}: bench measures with a disk; name a folder of this machine."
        )
    root = Path(mkdtemp(prefix="bench-", dir=output))
    folder = RunFolder(root)
    try:
        with folder.lock():
            plan = freeze_plan(folder, engine.source, engine.settings.shard_size, None, False)
            runner = ShardRunner(
                plan,
                folder,
                engine.predictor,
                engine.parts.sinks,
                ProgressBar(0, plan.n_images, quiet=True),
            )
            return measure(len(engine.entries), lambda: runner.run(range(plan.n_shards)))
    finally:
        shutil.rmtree(root)


def measure_forward(engine: LoadedEngine) -> Measurement:
    """Measure the engine on prepared inputs, of which at most about a gigabyte is kept."""
    kept: list[Batch] = []
    size = 0
    with closing(_load_batches(engine)) as batches:
        for batch in batches:
            kept.append(batch)
            size += sum(item.pixels.nbytes for item in batch.inputs)
            if size > _MAX_KEPT_BYTES:
                break

    def work() -> None:
        for batch in kept:
            if batch.inputs:
                engine.predictor.engine.forward(
                    [item.pixels for item in batch.inputs], [item.size_hw for item in batch.inputs]
                )

    return measure(sum(len(batch.items) for batch in kept), work)


def measure_decoding(engine: LoadedEngine) -> Measurement:
    """Measure reading, decoding and preprocessing in the pipeline's threads, without a model."""
    return measure(len(engine.entries), lambda: deque(_load_batches(engine), maxlen=0))


def _load_batches(engine: LoadedEngine) -> Generator[Batch, None, None]:
    return engine.predictor.load_batches([Shard(0, 0, tuple(engine.entries))])
