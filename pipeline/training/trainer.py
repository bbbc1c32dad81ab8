"""The loop: READ THIS FIRST of what learns. Steps, epochs, checkpoints; everything drawn is a function of the seed and the
step, so a training that was killed goes on as if it had not been."""

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
_SAVE_S = 300.0  # between checkpoints inside an epoch
_STATISTICS_EXAMPLES = 480  # examples that the averaged weights' batch norms are counted on
_MAX_GRADIENT_NORM = 10.0  # norm; beyond it a step is shortened


# (state_dict, figures, rows of the classes, epoch, whether it is the best so far)
SaveWeights = Callable[[dict[str, Tensor], Figures, list[dict[str, Any]], int, bool], None]


@dataclass
class BestEpoch:
    figure: float = -math.inf
    epoch: int = 0


class Trainer:
    """A network on its way. `keep` is called with the averaged weights of each epoch."""

    def __init__(
        self,
        frozen: FrozenLayers,
        learner: Learner,
        data: LoaderInputs,
        recipe: Recipe,
        folder: Path,
        keep: SaveWeights,
    ) -> None:
        self.network = optimize_memory_format(frozen.network.to(recipe.device))
        self.frozen, self.learner, self.data, self.recipe = frozen, learner, data, recipe
        self.folder, self.keep = folder, keep
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
        """From the checkpoint, or from the beginning, to the end. Returns the epochs' lines; epoch 0 is before training."""
        self._restore()
        with (
            TrainingLog(self.folder, self.step, self.total) as logbook,
            ProgressBar(self.step, self.total) as shown,
        ):
            if self.step:
                log.info("Going on after step %s of %s.", f"{self.step:,}", f"{self.total:,}")
            else:
                self._evaluate(logbook, 0, 0.0, "Before training")
                self._save()
            self._learn_mode()
            begun = time.monotonic()
            for batch in load_batches(self.data.training, self._remaining(), self.recipe.workers):
                shown.step(self._learn(batch, logbook))
                epoch, rest = divmod(self.step, self.steps_per_epoch)
                if not rest:
                    said = f"Epoch {epoch} of {self.recipe.epochs}: {shown.epoch()}"
                    self._finish(logbook, epoch, time.monotonic() - begun, said)
                    begun = time.monotonic()
                elif time.monotonic() - self.saved_at > _SAVE_S:
                    self._save()
            return logbook.read_epochs()

    def _remaining(self) -> RemainingBatches:
        return RemainingBatches(
            len(self.data.training.examples),
            self.recipe.batch_size,
            self.recipe.seed,
            self.recipe.epochs,
            self.step,
        )

    def _learn(self, batch: list[Example], logbook: TrainingLog) -> dict[str, float]:
        """One step. Returns the parts of the loss."""
        rate = compute_learning_rate(self.step, self.total, self.recipe.warmup, self.recipe.rate)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.step += 1
        if not self._enough(batch):
            return {}
        losses = self._losses(batch)
        loss = torch.stack(list(losses.values())).sum()
        told = {name: value.item() for name, value in losses.items()}
        self._check_finite("loss", sum(told.values()), told, rate)
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), _MAX_GRADIENT_NORM)
        if not self.scaler.is_enabled():  # the scaler itself leaves such steps out
            self._check_finite("gradient", norm.item(), told, rate)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.average.update(self.network, self.step)
        logbook.log_step(self.step, (self.step - 1) // self.steps_per_epoch + 1, rate, told)
        return told

    def _check_finite(self, what: str, value: float, told: dict[str, float], rate: float) -> None:
        """Raise PipelineError before the weights are ruined."""
        if not math.isfinite(value):
            raise PipelineError(
                f"The {what} is not finite at step {self.step} ({told}): it learns too fast. Say a train.lr below {rate:g}"
                + ("." if self.recipe.precision == "fp32" else ", or precision=fp32.")
            )

    def _enough(self, batch: list[Example]) -> bool:
        """Of those that could be read: none, or one of several, which a batch norm has nothing to go by in, is no step."""
        return len(batch) >= min(2, self.recipe.batch_size)

    def _losses(self, batch: list[Example]) -> dict[str, Tensor]:
        # detectors draw which boxes they learn from, and layers what they drop: as a function of the step
        torch.manual_seed(derive_seed(self.recipe.seed, "step", self.step))
        dtype = AUTOCAST[self.recipe.precision]
        kind = torch.device(self.recipe.device).type
        try:
            with torch.autocast(kind, dtype) if dtype else nullcontext():
                found = self.learner.compute_losses(self.network, batch, self.recipe.device)
        except ValueError as error:
            if len(batch) > 1:
                raise
            raise ConfigError(
                f"train.batch_size=1, or a single image to learn from: this network takes two at least ({error})."
            ) from None
        return {name: value.float() for name, value in found.items()}

    def _finish(self, logbook: TrainingLog, epoch: int, seconds: float, said: str) -> None:
        with self.average.swap_in(self.network, lambda: self._count_statistics(epoch)):
            self._evaluate(logbook, epoch, seconds, said)
        self._save()

    def _evaluate(self, logbook: TrainingLog, epoch: int, seconds: float, said: str) -> None:
        self.network.eval()
        begun = time.monotonic()
        with (
            torch.no_grad()
        ):  # not inference_mode: torchvision's anchors are kept, and learnt with afterwards
            batches = load_batches(
                self.data.validation, self.data.validation_batches, self.recipe.workers
            )
            figures, classes = self.learner.compute_figures(
                self.network, batches, self.recipe.device
            )
        main = figures[self.learner.figure]
        better = epoch > 0 and (main if main is not None else -math.inf) >= self.best.figure
        if better:
            self.best = BestEpoch(main if main is not None else -math.inf, epoch)
        if epoch:
            self.keep(self.network.state_dict(), figures, classes, epoch, better)
        logbook.log_epoch(self.step, epoch, figures, seconds)
        spent = f"{seconds:.0f} s, validation {time.monotonic() - begun:.0f} s"
        log.info("%s; %s (%s)", said, format_figures(figures, self.learner.figure), spent)

    @torch.no_grad()
    def _count_statistics(self, epoch: int) -> None:
        """The network in training mode sees some of the epoch's examples."""
        self._learn_mode()
        size = self.recipe.batch_size
        places = shuffle_into_batches(
            len(self.data.training.examples), size, self.recipe.seed, epoch - 1
        )
        for batch in load_batches(
            self.data.training,
            places[: math.ceil(_STATISTICS_EXAMPLES / size)],
            self.recipe.workers,
        ):
            if self._enough(batch):
                self._losses(batch)

    def _learn_mode(self) -> None:
        self.network.train()
        self.frozen.apply()

    def _save(self) -> None:
        self._learn_mode()
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

    def _restore(self) -> None:
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
    """The figures that people know, the one that decides first."""
    shown = [
        name
        for name in (main, f"{main}50", "top5", "pixel_accuracy")
        if figures.get(name) is not None
    ]
    return ", ".join(f"{name} {figures[name]:.4f}" for name in shown) or f"{main} is not defined"
