"""Examples as batches: in worker processes, in an order and with an augmentation that are functions of the seed alone, so
that a training that was interrupted goes on with exactly what it would have seen."""

import logging
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from threading import Thread
from typing import TypeAlias

import torch
from torch.utils.data import DataLoader, Dataset

from pipeline.core.hashing import derive_seed
from pipeline.core.types import InputError
from pipeline.training.data_protocols import Example, ExampleSet

log = logging.getLogger(__name__)
ExampleKey: TypeAlias = tuple[int, int]  # (epoch, number of the example)
Prepare = Callable[
    [Example, int], Example
]  # of a seed: augmentation, or what validation does instead


class PreparedExamples(Dataset[Example | str]):
    """Examples by (epoch, number), prepared. One that cannot be read is a text that says why."""

    def __init__(self, examples: ExampleSet, prepare: Prepare, seed: int) -> None:
        self.examples, self.prepare, self.seed = examples, prepare, seed
        self.told: set[str] = set()  # in this process

    def __getitem__(self, place: ExampleKey) -> Example | str:
        epoch, number = place
        try:
            example = self.examples.example(number, epoch)
        except (InputError, OSError) as error:
            return f"{self.examples.name(number)}: {' '.join(str(error).split())}"
        return self.prepare(example, derive_seed(self.seed, epoch, number))


@dataclass(frozen=True)
class LoaderInputs:
    """What is learnt from, and what it is measured by, in batches of its own."""

    training: PreparedExamples
    validation: PreparedExamples
    validation_batches: list[list[ExampleKey]]


def shuffle_into_batches(
    n_examples: int, batch_size: int, seed: int, epoch: int
) -> list[list[ExampleKey]]:
    """An epoch's batches. The last one is left out where it is not full, because a batch norm has nothing to go by in a
    batch of one; other examples are in it in the next epoch."""
    draw = torch.Generator().manual_seed(derive_seed(seed, epoch))
    order = torch.randperm(n_examples, generator=draw).tolist()
    full = n_examples - n_examples % batch_size if n_examples >= batch_size else n_examples
    return [
        [(epoch, number) for number in order[at : at + batch_size]]
        for at in range(0, full, batch_size)
    ]


class RemainingBatches:
    """The batches that are still to come after so many steps, epoch after epoch."""

    def __init__(self, n_examples: int, batch_size: int, seed: int, epochs: int, step: int) -> None:
        self.n_examples, self.batch_size, self.seed, self.epochs, self.step = (
            n_examples,
            batch_size,
            seed,
            epochs,
            step,
        )

    def __iter__(self) -> Iterator[list[ExampleKey]]:
        first, skipped = divmod(
            self.step, len(shuffle_into_batches(self.n_examples, self.batch_size, self.seed, 0))
        )
        for epoch in range(first, self.epochs):
            yield from shuffle_into_batches(self.n_examples, self.batch_size, self.seed, epoch)[
                skipped if epoch == first else 0 :
            ]


def group_validation_batches(
    examples: ExampleSet, batch_size: int, cropped: bool
) -> list[list[ExampleKey]]:
    """Each of images of one size: detectors pad to the largest, which changes the others' results. `cropped`: all become of
    one size."""
    by_size: dict[tuple[int, ...], list[ExampleKey]] = {}
    for number, size_hw in enumerate(map(tuple, examples.sizes_hw.tolist())):
        by_size.setdefault((0, 0) if cropped else size_hw, []).append((0, number))
    return [
        some[at : at + batch_size]
        for some in by_size.values()
        for at in range(0, len(some), batch_size)
    ]


def load_batches(
    drawn: PreparedExamples,
    batches: Sequence[list[ExampleKey]] | Iterable[list[ExampleKey]],
    workers: int,
) -> Iterator[list[Example]]:
    """The examples of each batch, in order. `workers` processes work ahead; 0: none. Those that cannot be read are left
    out of their batch, and named once."""
    for batch in DataLoader(
        drawn,
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=list,
        worker_init_fn=_initialize_worker if workers else None,
        multiprocessing_context=_worker_context() if workers else None,
        prefetch_factor=4 if workers else None,
    ):
        for said in {one for one in batch if isinstance(one, str)} - drawn.told:
            drawn.told.add(said)
            log.warning("Left out of training: %s", said)
        yield [one for one in batch if isinstance(one, Example)]


def _worker_context() -> multiprocessing.context.BaseContext:
    """Forked from a process that has the libraries and no threads: a fork of this one could hang, and `spawn` would import
    them for every worker."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pipeline.training.data_loading", "torchvision"])
    return context


def _exit_with_trainer(trainer: multiprocessing.process.BaseProcess) -> None:
    """PyTorch's own watch is for the process that forked this one, which waits for this one."""
    trainer.join()
    os._exit(1)


def _initialize_worker(worker: int) -> None:
    """One core for each worker: a team of threads in each would fight for them. A terminal's Ctrl-C is for the trainer."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    Thread(target=_exit_with_trainer, args=(multiprocessing.parent_process(),), daemon=True).start()
    # tensors go back through files in shared memory: descriptors, of which a process has a thousand, would run out
    torch.multiprocessing.set_sharing_strategy("file_system")
