"""The verb `train`: learn weights from annotated images. Read this file first, then `trainer.py`.

Everything is checked before the first step. A training writes `report.html` and
`best.safetensors`: weights with all the metadata that a run needs. The same command resumes an
interrupted training.
"""

import json
import logging
from importlib.metadata import version
from pathlib import Path
from typing import Any

from torch import Tensor

from pipeline.config.instantiate import instantiate
from pipeline.config.settings import Settings
from pipeline.core.background import BACKGROUND
from pipeline.core.errors import shorten_list
from pipeline.core.text_tables import format_pairs
from pipeline.core.types import Writer
from pipeline.models.checkpoints import read_checkpoint_metadata, save_checkpoint
from pipeline.models.preprocessing import Preprocessing
from pipeline.storage.file_locks import lock_folder
from pipeline.storage.publish import create_output_folder, publish_file
from pipeline.training.augmentation import Augmentation
from pipeline.training.data_loading import LoaderInputs, PreparedExamples, group_validation_batches
from pipeline.training.data_protocols import TrainingData
from pipeline.training.learners.learner import Figures
from pipeline.training.task_registry import build_learner, check_task, find_input_size
from pipeline.training.trainer import SaveWeights, Trainer, format_figures
from pipeline.training.training_log import load_summary_writer
from pipeline.training.training_plan import TrainingPlan, build_training_plan, format_model_name
from pipeline.training.training_report import write_training_report

log = logging.getLogger(__name__)
_OUTCOME_FILE = "trained.json"


def train_model(settings: Settings) -> str:
    """Start or resume a training, and return the text to print.

    A complete training is not repeated. With `dry_run` the plan is printed and nothing
    is trained.
    """
    check_task(settings)
    load_summary_writer()  # fail before any data is read if TensorBoard is missing
    examples: TrainingData = instantiate(settings.components["examples"], task=settings.task)
    plan = build_training_plan(settings, examples)
    if settings.dry_run:
        return describe_plan(plan)

    outcome_file = plan.folder / _OUTCOME_FILE
    if outcome_file.is_file():
        return describe_outcome(plan.folder)

    create_output_folder(plan.folder)
    with lock_folder(plan.folder, Writer(), lambda alone: None):
        # Another process may have completed the training while this one waited for the lock.
        if not outcome_file.is_file():
            log.info("%s", describe_plan(plan))
            run_training(plan)
    return describe_outcome(plan.folder)


def run_training(plan: TrainingPlan) -> None:
    """Train from the plan; write the weights, the report and, last, the outcome file."""
    preprocessing = Preprocessing.from_preset(plan.model.transform)
    normalize = preprocessing.normalize.to(plan.recipe.device)
    learner = build_learner(plan.settings.task, plan.examples, normalize)
    save_weights = build_weights_saver(plan, learner.figure)
    trainer = Trainer(
        plan.frozen, learner, _build_loader_inputs(plan), plan.recipe, plan.folder, save_weights
    )
    epochs = trainer.fit()

    best = trainer.best.epoch
    classes = read_checkpoint_metadata(plan.folder / "best.safetensors").metrics["classes"]
    facts = collect_facts(plan)
    write_training_report(plan.folder, facts, epochs, classes, learner.figure, best)
    with publish_file(plan.folder / _OUTCOME_FILE, replace=True) as stage:
        content = {"figure": learner.figure, "best_epoch": best, "log": epochs, **facts}
        stage.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (plan.folder / "checkpoint.pt").unlink(missing_ok=True)


def _build_loader_inputs(plan: TrainingPlan) -> LoaderInputs:
    settings, examples, recipe = plan.settings, plan.examples, plan.recipe
    crop_hw, resize = find_input_size(plan.model.transform)
    augmentation = Augmentation.for_training(
        settings.task, settings.train.augment, crop_hw, examples.keypoint_names, resize
    )
    validation = Augmentation.for_validation(settings.task, crop_hw, resize)
    channels = plan.model.build_metadata(examples.categories).channels
    return LoaderInputs(
        PreparedExamples(examples.training, augmentation.with_channels(channels), recipe.seed),
        PreparedExamples(examples.validation, validation.with_channels(channels), recipe.seed),
        group_validation_batches(
            examples.validation, recipe.batch_size, cropped=settings.task == "classify"
        ),
    )


def build_weights_saver(plan: TrainingPlan, figure: str) -> SaveWeights:
    """Build the function that saves an epoch's weights.

    It writes `last.safetensors`, and also `best.safetensors` if no earlier epoch was better.

    Args:
        plan: The training.
        figure: Name of the figure by which the best epoch is chosen.
    """

    def save_weights(
        state: dict[str, Tensor],
        figures: Figures,
        classes: list[dict[str, Any]],
        epoch: int,
        best: bool,
    ) -> None:
        metrics = {"figure": figure, "epoch": epoch, **figures, "classes": classes}
        metadata = plan.model.build_metadata(
            plan.examples.categories, plan.examples.keypoint_names, metrics, collect_facts(plan)
        )
        for name in ("last", "best") if best else ("last",):
            save_checkpoint(plan.folder / f"{name}.safetensors", state, metadata)

    return save_weights


def collect_facts(plan: TrainingPlan) -> dict[str, Any]:
    """Collect the facts about a training for the weights' metadata and the report.

    They contain no paths, because weights are passed on to other people.
    """
    return {
        "task": plan.settings.task,
        "model": format_model_name(plan.settings),
        "begun_with": plan.begun_with,
        "classes": len(plan.examples.categories) - (plan.examples.categories[0] == BACKGROUND),
        "examples": len(plan.examples.training),
        "validation_examples": len(plan.examples.validation),
        "frozen_stages": plan.frozen.stages,
        "augment": list(plan.settings.train.augment),
        **{name: value for name, value in vars(plan.recipe).items() if name != "workers"},
        "data": dict(plan.examples.identity),
        "libraries": {name: version(name) for name in ("torch", "torchvision")},
    }


def describe_plan(plan: TrainingPlan) -> str:
    """Describe a training before it starts: data, network, hyperparameters, folder."""
    recipe = plan.recipe
    names = [name for name in plan.examples.categories if name != BACKGROUND]
    training, validation = len(plan.examples.training), len(plan.examples.validation)
    parameters = list(plan.frozen.network.parameters())
    total = sum(parameter.numel() for parameter in parameters) / 1e6
    trainable = sum(parameter.numel() for parameter in parameters if parameter.requires_grad) / 1e6
    rows = {
        "examples": f"{training:,} for training, {validation:,} for validation",
        "classes": f"{len(names)}: {shorten_list(names)}",
        "initial weights": plan.begun_with,
        "trainable": f"{trainable:.1f} of {total:.1f} M parameters; "
        f"{plan.frozen.stages} stages of the backbone are frozen",
        "recipe": f"{recipe.epochs} epochs, batches of {recipe.batch_size}, {recipe.precision}, "
        f"{recipe.device}, learning rate {recipe.rate:g}",
        "folder": str(plan.folder),
    }
    return f"Training {plan.settings.model} for task={plan.settings.task}\n{format_pairs(rows)}"


def describe_outcome(folder: Path) -> str:
    """Describe a complete training: its figures, its files, and how to use the weights."""
    outcome = json.loads((folder / _OUTCOME_FILE).read_text(encoding="utf-8"))
    main, best = outcome["figure"], outcome["best_epoch"]
    figures = {line["epoch"]: line["figures"] for line in outcome["log"]}
    rows = {
        "before": format_figures(figures[0], main),
        f"epoch {best} (best)": format_figures(figures[best], main),
        f"epoch {max(figures)} (last)": format_figures(figures[max(figures)], main),
        "weights": str(folder / "best.safetensors"),
        "report": str(folder / "report.html"),
    }
    heading = f"Trained: {outcome['examples']:,} examples, {outcome['epochs']} epochs"
    usage = f"make run model={folder / 'best.safetensors'} input=DIR"
    return f"{heading}\n{format_pairs(rows)}\n\nUse it: {usage}"
