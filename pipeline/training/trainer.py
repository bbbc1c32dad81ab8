"""The training loop: steps, epochs, evaluation and checkpoints.

Every random draw is a function of the seed and the step, so a training that is killed and resumed
gives the same results as one without interruption.
"""

import logging
import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.core.errors import ConfigError, PipelineError
from pipeline.core.hashing import derive_seed
from pipeline.inference.engine_base import AUTOCAST
from pipeline.storage.publish import publish_file
from pipeline.training.averaged_weights import AveragedWeights
from pipeline.training.data_loading import (
    LoaderInputs,
    RemainingBatches,
    load_batches,
    shuffle_into_batches,
)
from pipeline.training.data_protocols import Example
from pipeline.training.freezing import FrozenLayers
from pipeline.training.learners.learner import Figures, Learner
from pipeline.training.memory_format import optimize_memory_format
from pipeline.training.progress_bar import ProgressBar
from pipeline.training.recipe import Recipe, build_optimizer, compute_learning_rate
from pipeline.training.training_log import TrainingLog

log = logging.getLogger(__name__)
_SAVE_S = 300.0  # seconds between checkpoints inside an epoch
_STATISTICS_EXAMPLES = 480  # to compute batch norm statistics for the averaged weights
_MAX_GRADIENT_NORM = 10.0  # larger gradients are clipped


# (state_dict, figures, table rows of the classes, epoch, whether it is the best so far)
SaveWeights = Callable[[dict[str, Tensor], Figures, list[dict[str, Any]], int, bool], None]


@dataclass(frozen=True)
class BestEpoch:
    """The best epoch so far and the figure that it was chosen by."""

    figure: float = -math.inf
    epoch: int = 0


class Trainer:
    """Trains a network and writes logs and checkpoints into a folder.

    After each epoch it calls `save_weights` with the averaged weights and their figures.
    """

    def __init__(
        self,
        frozen: FrozenLayers,
        learner: Learner,
        data: LoaderInputs,
        recipe: Recipe,
        folder: Path,
        save_weights: SaveWeights,
    ) -> None:
        self.network = optimize_memory_format(frozen.network.to(recipe.device))
        self.frozen, self.learner, self.data, self.recipe = frozen, learner, data, recipe
        self.folder, self.save_weights = folder, save_weights
        self.optimizer = build_optimizer(self.network, recipe)
        self.scaler = torch.amp.GradScaler(
            recipe.device.partition(":")[0], enabled=recipe.precision == "fp16"
        )
        self.average = AveragedWeights(self.network, recipe.ema)
        self.best, self.step = BestEpoch(), 0
        self.steps_per_epoch = len(
            shuffle_into_batches(len(data.training.examples), recipe.batch_size, recipe.seed, 0)
        )
        self.total = self.steps_per_epoch * recipe.epochs
        self.saved_at = time.monotonic()

    def fit(self) -> list[dict[str, Any]]:
        """Train to the end, from the checkpoint if there is one.

        Returns:
            The lines of `epochs.jsonl`. Epoch 0 is the evaluation before training.
        """
        self._load_checkpoint()
        with (
            TrainingLog(self.folder, self.step, self.total) as training_log,
            ProgressBar(self.step, self.total) as progress,
        ):
            if self.step:
                log.info("Resuming after step %s of %s.", f"{self.step:,}", f"{self.total:,}")
            else:
                self._evaluate(training_log, 0, 0.0, "Before training")
                self._save_checkpoint()
            self._set_training_mode()
            started = time.monotonic()
            for batch in load_batches(
                self.data.training, self._remaining_batches(), self.recipe.workers
            ):
                progress.step(self._train_step(batch, training_log))
                epoch, steps_into_epoch = divmod(self.step, self.steps_per_epoch)
                if not steps_into_epoch:
                    heading = f"Epoch {epoch} of {self.recipe.epochs}: {progress.epoch()}"
                    self._finish_epoch(training_log, epoch, time.monotonic() - started, heading)
                    started = time.monotonic()
                elif time.monotonic() - self.saved_at > _SAVE_S:
                    self._save_checkpoint()
            return training_log.read_epochs()

    def _remaining_batches(self) -> RemainingBatches:
        return RemainingBatches(
            len(self.data.training.examples),
            self.recipe.batch_size,
            self.recipe.seed,
            self.recipe.epochs,
            self.step,
        )

    def _train_step(self, batch: list[Example], training_log: TrainingLog) -> dict[str, float]:
        """Do one step and return the loss terms. If the batch is too small, return none."""
        rate = compute_learning_rate(self.step, self.total, self.recipe.warmup, self.recipe.rate)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.step += 1
        if not self._is_large_enough(batch):
            return {}

        losses = self._compute_losses(batch)
        loss = torch.stack(list(losses.values())).sum()
        terms = {name: value.item() for name, value in losses.items()}
        self._check_finite("loss", sum(terms.values()), terms, rate)

        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), _MAX_GRADIENT_NORM)
        if not self.scaler.is_enabled():  # the scaler itself skips steps that are not finite
            self._check_finite("gradient", norm.item(), terms, rate)

        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.average.update(self.network, self.step)
        training_log.log_step(self.step, (self.step - 1) // self.steps_per_epoch + 1, rate, terms)
        return terms

    def _check_finite(self, name: str, value: float, terms: dict[str, float], rate: float) -> None:
        """Raise PipelineError for a value that is not finite, before it ruins the weights."""
        if not math.isfinite(value):
            other = "" if self.recipe.precision == "fp32" else ", or precision=fp32"
            raise PipelineError(
                f"The {name} is not finite at step {self.step} ({terms}): the learning rate is "
                f"too high. Say a train.lr below {rate:g}{other}."
            )

    def _is_large_enough(self, batch: list[Example]) -> bool:
        """Return whether enough examples of a batch could be read. A batch norm needs two."""
        return len(batch) >= min(2, self.recipe.batch_size)

    def _compute_losses(self, batch: list[Example]) -> dict[str, Tensor]:
        # Detectors sample the boxes that they learn from, and dropout is random. The seed depends
        # on the step, so that a resumed training draws the same numbers.
        torch.manual_seed(derive_seed(self.recipe.seed, "step", self.step))
        dtype = AUTOCAST[self.recipe.precision]
        kind = torch.device(self.recipe.device).type
        try:
            with torch.autocast(kind, dtype) if dtype else nullcontext():
                losses = self.learner.compute_losses(self.network, batch, self.recipe.device)
        except ValueError as error:
            if len(batch) > 1:
                raise
            raise ConfigError(
                "train.batch_size=1, or a single image to learn from: "
                f"this network takes two at least ({error})."
            ) from None
        return {name: value.float() for name, value in losses.items()}

    def _finish_epoch(
        self, training_log: TrainingLog, epoch: int, seconds: float, heading: str
    ) -> None:
        with self.average.swap_in(self.network, lambda: self._count_statistics(epoch)):
            self._evaluate(training_log, epoch, seconds, heading)
        self._save_checkpoint()

    def _evaluate(
        self, training_log: TrainingLog, epoch: int, seconds: float, heading: str
    ) -> None:
        self.network.eval()
        started = time.monotonic()
        # Not inference_mode: torchvision caches anchors, and training uses them afterwards.
        with torch.no_grad():
            batches = load_batches(
                self.data.validation, self.data.validation_batches, self.recipe.workers
            )
            figures, classes = self.learner.compute_figures(
                self.network, batches, self.recipe.device
            )

        value = figures[self.learner.figure]
        figure = -math.inf if value is None else value
        is_best = epoch > 0 and figure >= self.best.figure
        if is_best:
            self.best = BestEpoch(figure, epoch)
        if epoch:
            self.save_weights(self.network.state_dict(), figures, classes, epoch, is_best)
        training_log.log_epoch(self.step, epoch, figures, seconds)
        spent = f"{seconds:.0f} s, validation {time.monotonic() - started:.0f} s"
        log.info("%s; %s (%s)", heading, format_figures(figures, self.learner.figure), spent)

    @torch.no_grad()
    def _count_statistics(self, epoch: int) -> None:
        """Run the network in training mode on some of the epoch's examples."""
        self._set_training_mode()
        size = self.recipe.batch_size
        batches = shuffle_into_batches(
            len(self.data.training.examples), size, self.recipe.seed, epoch - 1
        )
        for batch in load_batches(
            self.data.training,
            batches[: math.ceil(_STATISTICS_EXAMPLES / size)],
            self.recipe.workers,
        ):
            if self._is_large_enough(batch):
                self._compute_losses(batch)

    def _set_training_mode(self) -> None:
        self.network.train()
        self.frozen.apply()

    def _save_checkpoint(self) -> None:
        self._set_training_mode()
        state = {
            "step": self.step,
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "average": self.average.state(),
            "best": {"figure": self.best.figure, "epoch": self.best.epoch},
        }
        with publish_file(self.folder / "checkpoint.pt", replace=True) as stage:
            torch.save(state, stage)
        self.saved_at = time.monotonic()

    def _load_checkpoint(self) -> None:
        path = self.folder / "checkpoint.pt"
        if not path.is_file():
            return
        state = torch.load(path, map_location=self.recipe.device, weights_only=True)
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.average.restore(state["average"])
        self.best, self.step = BestEpoch(**state["best"]), state["step"]


def format_figures(figures: Figures, main: str) -> str:
    """Format the best-known figures as text, first the figure that chooses the best epoch."""
    known = (main, f"{main}50", "top5", "pixel_accuracy")
    defined = [name for name in known if figures.get(name) is not None]
    return ", ".join(f"{name} {figures[name]:.4f}" for name in defined) or f"{main} is not defined"
