"""What is measured: the loops that people write, this pipeline, and its two halves alone. Each takes a `Setup` and returns
the time that its images took, everything loaded before."""

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from pipeline.assemble import Parts
from pipeline.bench.repeated import Repeated
from pipeline.commit import RunFolder
from pipeline.loading import Loader
from pipeline.plan import freeze
from pipeline.progress import Progress
from pipeline.settings import Settings
from pipeline.shard import ShardRunner
from pipeline.types import Batch, Entry, InputError, Model, Shard

_MOST_BYTES = 1 << 30  # of inputs kept for the forward pass alone
Sized = tuple[Tensor, tuple[int, int]]  # the model's input, and the size of the image it was made of


@dataclass(frozen=True)
class Setup:
    """One model, loaded twice: as it is for the loops, and in the hands of the engine."""

    settings: Settings
    parts: Parts
    plain: Model
    model: Model
    source: Repeated

    @property
    def entries(self) -> Sequence[Entry]:
        return self.source.listed


@dataclass(frozen=True)
class Taken:
    """`core_seconds` is the time of all this process's threads."""

    images: int
    seconds: float
    core_seconds: float

    @property
    def rate(self) -> float:
        return self.images / self.seconds


def timed(images: int, work: Callable[[], object]) -> Taken:
    wall, cores = time.perf_counter(), time.process_time()
    work()
    return Taken(images, time.perf_counter() - wall, time.process_time() - cores)


def plain_loop(setup: Setup) -> Taken:
    """One image at a time, as every tutorial shows it."""

    def work() -> None:
        with torch.inference_mode():
            for entry in setup.entries:
                pixels, size_hw = prepared(setup, entry)
                setup.plain.network([pixels], [size_hw])

    return timed(len(setup.entries), work)


def plain_dataloader(setup: Setup) -> Taken:
    """torch's DataLoader with two worker processes and whatever images come next in a batch."""
    loader = DataLoader(_Plain(setup), batch_size=setup.settings.batch_size, num_workers=2, collate_fn=list)

    def work() -> None:
        with torch.inference_mode():
            for batch in loader:
                setup.plain.network([pixels for pixels, _ in batch], [size_hw for _, size_hw in batch])

    return timed(len(setup.entries), work)


def pipeline(setup: Setup) -> Taken:
    """From files to committed Parquet."""
    folder = RunFolder(Path(mkdtemp(prefix="bench-", dir=Path(setup.settings.output).expanduser())))
    try:
        with folder.locked():
            plan = freeze(folder, setup.source, setup.settings.shard_size, None, False)
            runner = ShardRunner(
                plan=plan,
                folder=folder,
                loader=loader_of(setup),
                engine=setup.parts.engine,
                task=setup.parts.task,
                keep=setup.parts.filters.apply,
                sinks=setup.parts.sinks,
                progress=Progress(0, plan.n_images, quiet=True),
            )
            return timed(len(setup.entries), lambda: runner.run(range(plan.n_shards)))
    finally:
        shutil.rmtree(folder.path)


def forward_alone(setup: Setup) -> Taken:
    """The engine on inputs that are ready: as many as a gigabyte holds."""
    kept: list[Batch] = []
    size = 0
    for batch in batches_of(setup):
        kept.append(batch)
        size += sum(one.pixels.nbytes for one in batch.inputs)
        if size > _MOST_BYTES:
            break

    def work() -> None:
        for batch in kept:
            if batch.inputs:
                setup.parts.engine.forward([one.pixels for one in batch.inputs], [one.size_hw for one in batch.inputs])

    return timed(sum(len(batch.items) for batch in kept), work)


def decode_alone(setup: Setup) -> Taken:
    """Read, decode and transform in the pipeline's own threads; nothing waits for a model."""
    return timed(len(setup.entries), lambda: [None for _ in batches_of(setup)])


def batches_of(setup: Setup) -> Iterator[Batch]:
    return loader_of(setup).batches([Shard(0, 0, tuple(setup.entries))])


def loader_of(setup: Setup) -> Loader:
    settings = setup.settings
    views, on_cpu = setup.parts.views, setup.parts.engine.device == "cpu"
    workers, pixels = settings.workers, settings.max_pixels
    return Loader(setup.source, setup.model, settings.batch_size, workers, pixels, views, overlap=not on_cpu)


def prepared(setup: Setup, entry: Entry) -> Sized:
    """Raises InputError and OSError: a benchmark wants images that can be read."""
    (pixels,) = setup.source.read([entry], setup.settings.max_pixels, lambda stage: nullcontext())
    if isinstance(pixels, InputError | OSError):
        raise pixels
    return setup.plain.preprocess(pixels), (pixels.shape[-2], pixels.shape[-1])


class _Plain(Dataset[Sized]):
    def __init__(self, setup: Setup) -> None:
        self.setup = setup

    def __len__(self) -> int:
        return len(self.setup.entries)

    def __getitem__(self, index: int) -> Sized:
        return prepared(self.setup, self.setup.entries[index])
