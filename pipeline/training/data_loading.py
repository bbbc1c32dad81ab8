"""Load batches of examples in worker processes.

Order and augmentation are functions of the seed alone, so a training that resumes sees exactly
the examples that it would have seen without the interruption.
"""

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
ExampleKey: TypeAlias = tuple[int, int]  # (epoch, index of the example)
Prepare = Callable[
    [Example, int], Example
]  # (example, seed) -> example: augmentation, or the transforms of validation


class PreparedExamples(Dataset[Example | str]):
    """A torch data set of prepared examples, addressed by (epoch, index).

    If an example cannot be read, the error message is returned in its place.
    """

    def __init__(self, examples: ExampleSet, prepare: Prepare, seed: int) -> None:
        self.examples, self.prepare, self.seed = examples, prepare, seed
        self.reported: set[str] = set()  # unreadable examples that this process has logged

    def __getitem__(self, place: ExampleKey) -> Example | str:
        epoch, number = place
        try:
            example = self.examples.example(number, epoch)
        except (InputError, OSError) as error:
            return f"{self.examples.name(number)}: {' '.join(str(error).split())}"
        return self.prepare(example, derive_seed(self.seed, epoch, number))


@dataclass(frozen=True)
class LoaderInputs:
    """Training examples, and validation examples with their batches."""

    training: PreparedExamples
    validation: PreparedExamples
    validation_batches: list[list[ExampleKey]]


def shuffle_into_batches(
    n_examples: int, batch_size: int, seed: int, epoch: int
) -> list[list[ExampleKey]]:
    """Shuffle the examples of an epoch into batches of keys.

    An incomplete last batch is left out, because a batch norm cannot learn from a batch of one.
    The next epoch leaves out other examples.
    """
    generator = torch.Generator().manual_seed(derive_seed(seed, epoch))
    order = torch.randperm(n_examples, generator=generator).tolist()
    full = n_examples - n_examples % batch_size if n_examples >= batch_size else n_examples
    return [
        [(epoch, number) for number in order[at : at + batch_size]]
        for at in range(0, full, batch_size)
    ]


class RemainingBatches:
    """Iterates over the batches of all epochs, beginning after `step` steps."""

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
    """Group the validation examples into batches of one image size.

    Detectors pad the images of a batch to the largest one, and padding changes their results.

    Args:
        examples: The validation part.
        batch_size: Largest number of examples in a batch.
        cropped: Whether all images are cropped to one size. If so, any of them may share a batch.
    """
    keys_by_size: dict[tuple[int, ...], list[ExampleKey]] = {}
    for number, size_hw in enumerate(map(tuple, examples.sizes_hw.tolist())):
        keys_by_size.setdefault((0, 0) if cropped else size_hw, []).append((0, number))
    return [
        keys[start : start + batch_size]
        for keys in keys_by_size.values()
        for start in range(0, len(keys), batch_size)
    ]


def load_batches(
    examples: PreparedExamples,
    batches: Sequence[list[ExampleKey]] | Iterable[list[ExampleKey]],
    workers: int,
) -> Iterator[list[Example]]:
    """Load batches in order.

    Examples that cannot be read are left out of their batch and logged once.

    Args:
        examples: The data set.
        batches: The keys of each batch.
        workers: Number of processes that prefetch; 0 loads in this process.
    """
    for batch in DataLoader(
        examples,
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=list,
        worker_init_fn=_initialize_worker if workers else None,
        multiprocessing_context=_worker_context() if workers else None,
        prefetch_factor=4 if workers else None,
    ):
        for problem in {item for item in batch if isinstance(item, str)} - examples.reported:
            examples.reported.add(problem)
            log.warning("Left out of training: %s", problem)
        yield [item for item in batch if isinstance(item, Example)]


def _worker_context() -> multiprocessing.context.BaseContext:
    """Return a `forkserver` context that has imported the libraries.

    Forking the trainer could hang because it has threads, and `spawn` would import the libraries
    in every worker.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pipeline.training.data_loading", "torchvision"])
    return context


def _exit_with_trainer(trainer: multiprocessing.process.BaseProcess) -> None:
    """Exit when the trainer exits.

    PyTorch's own watchdog watches the parent, which is the fork server and outlives the trainer.
    """
    trainer.join()
    os._exit(1)


def _initialize_worker(worker: int) -> None:
    """Set up a worker: one thread, no reaction to Ctrl-C, exit with the trainer."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    Thread(target=_exit_with_trainer, args=(multiprocessing.parent_process(),), daemon=True).start()
    # The default strategy keeps a file descriptor per tensor, and these would run out.
    torch.multiprocessing.set_sharing_strategy("file_system")
