"""The verb: train task=detect model=NAME train.data=instances.json. Everything is checked before the first step; what it
leaves is ordinary weights, `best.safetensors`, which name all that a run needs to use them."""

import json
import logging
from importlib.metadata import version
from pathlib import Path
from typing import Any

from torch import Tensor

from pipeline.config.instantiate import instantiate
from pipeline.config.settings import Settings
from pipeline.core.errors import shorten_list
from pipeline.core.text_tables import format_pairs
from pipeline.core.types import Writer
from pipeline.models.checkpoints import read_checkpoint_metadata, save_checkpoint
from pipeline.models.class_names import BACKGROUND
from pipeline.models.preprocessing import Preprocessing
from pipeline.storage.file_locks import lock_folder
from pipeline.storage.publish import publish_file
from pipeline.training.augmentation import Augmentation
from pipeline.training.data_loading import LoaderInputs, PreparedExamples, group_validation_batches
from pipeline.training.data_protocols import TrainingData
from pipeline.training.learners.learner import Figures
from pipeline.training.task_registry import build_learner, check_task, find_input_size
from pipeline.training.trainer import SaveWeights, Trainer, format_figures
from pipeline.training.training_log import load_summary_writer
from pipeline.training.training_plan import TrainingPlan, build_training_plan, model_label
from pipeline.training.training_report import write_training_report

log = logging.getLogger(__name__)
_OUTCOME_FILE = "trained.json"


def train_model(settings: Settings) -> str:
    """Train, or go on, or find it complete."""
    check_task(settings)
    load_summary_writer()  # to be refused before anything is read
    examples: TrainingData = instantiate(settings.components["examples"], task=settings.task)
    plan = build_training_plan(settings, examples)
    if settings.dry_run:
        return describe_plan(plan)
    if (plan.folder / _OUTCOME_FILE).is_file():
        return describe_outcome(plan.folder)
    plan.folder.mkdir(parents=True, exist_ok=True)
    with lock_folder(plan.folder, Writer(), lambda alone: None):
        if not (
            plan.folder / _OUTCOME_FILE
        ).is_file():  # another process may have ended it meanwhile
            log.info("%s", describe_plan(plan))
            run_training(plan)
    return describe_outcome(plan.folder)


def run_training(plan: TrainingPlan) -> None:
    """From the examples to the weights and the report."""
    settings, examples, recipe = plan.settings, plan.examples, plan.recipe
    halves = Preprocessing.from_preset(plan.model.transform)
    learner = build_learner(settings.task, examples, halves.normalize.to(recipe.device))
    crop_hw, resize = find_input_size(plan.model.transform)
    augmentation = Augmentation.for_training(
        settings.task, settings.train.augment, crop_hw, examples.keypoint_names, resize
    )
    as_judged = Augmentation.for_validation(settings.task, crop_hw, resize)
    channels = plan.model.build_metadata(examples.categories).channels
    data = LoaderInputs(
        PreparedExamples(examples.training, augmentation.with_channels(channels), recipe.seed),
        PreparedExamples(examples.validation, as_judged.with_channels(channels), recipe.seed),
        group_validation_batches(
            examples.validation, recipe.batch_size, cropped=settings.task == "classify"
        ),
    )
    training = Trainer(
        plan.frozen, learner, data, recipe, plan.folder, build_weights_saver(plan, learner.figure)
    )
    epochs = training.fit()
    best = training.best.epoch
    classes = read_checkpoint_metadata(plan.folder / "best.safetensors").metrics["classes"]
    write_training_report(plan.folder, collect_facts(plan), epochs, classes, learner.figure, best)
    with publish_file(plan.folder / _OUTCOME_FILE, replace=True) as stage:
        content = {
            "figure": learner.figure,
            "best_epoch": best,
            "log": epochs,
            **collect_facts(plan),
        }
        stage.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (plan.folder / "checkpoint.pt").unlink(missing_ok=True)


def build_weights_saver(plan: TrainingPlan, figure: str) -> SaveWeights:
    """Saves an epoch's weights as `last.safetensors`, and as `best.safetensors` while no other is better."""

    def keep(
        state: dict[str, Tensor],
        figures: Figures,
        classes: list[dict[str, Any]],
        epoch: int,
        best: bool,
    ) -> None:
        metrics = {"figure": figure, "epoch": epoch, **figures, "classes": classes}
        trained = plan.model.build_metadata(
            plan.examples.categories, plan.examples.keypoint_names, metrics, collect_facts(plan)
        )
        for name in ("last", "best") if best else ("last",):
            save_checkpoint(plan.folder / f"{name}.safetensors", state, trained)

    return keep


def collect_facts(plan: TrainingPlan) -> dict[str, Any]:
    """Of a training, for those who come later. No paths, which are nobody else's business."""
    return {
        "task": plan.settings.task,
        "model": model_label(plan.settings),
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
    """What is about to be done."""
    names = [name for name in plan.examples.categories if name != BACKGROUND]
    examples = len(plan.examples.training), len(plan.examples.validation)
    every = sum(one.numel() for one in plan.frozen.network.parameters()) / 1e6
    learning = (
        sum(one.numel() for one in plan.frozen.network.parameters() if one.requires_grad) / 1e6
    )
    rows = {
        "examples": f"{examples[0]:,} to learn from, {examples[1]:,} to be measured by",
        "classes": f"{len(names)}: {shorten_list(names)}",
        "begins with": plan.begun_with,
        "learns": f"{learning:.1f} of {every:.1f} M parameters; {plan.frozen.stages} stages of the backbone are frozen",
        "how": f"{plan.recipe.epochs} epochs in batches of {plan.recipe.batch_size}, {plan.recipe.precision}, "
        f"{plan.recipe.device}, learning rate {plan.recipe.rate:g}",
        "folder": str(plan.folder),
    }
    return f"Training {plan.settings.model} for task={plan.settings.task}\n{format_pairs(rows)}"


def describe_outcome(folder: Path) -> str:
    """Of a training that has ended."""
    done = json.loads((folder / _OUTCOME_FILE).read_text(encoding="utf-8"))
    main, best = done["figure"], done["best_epoch"]
    figures = {line["epoch"]: line["figures"] for line in done["log"]}
    rows = {
        "before": format_figures(figures[0], main),
        f"epoch {best} (best)": format_figures(figures[best], main),
        f"epoch {max(figures)} (last)": format_figures(figures[max(figures)], main),
        "weights": str(folder / "best.safetensors"),
        "report": str(folder / "report.html"),
    }
    usage = f"make run model={folder / 'best.safetensors'} input=DIR"
    return f"Trained: {done['examples']:,} examples, {done['epochs']} epochs\n{format_pairs(rows)}\n\nUse it: {usage}"
