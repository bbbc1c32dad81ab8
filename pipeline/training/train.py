"""The verb: train task=detect model=NAME train.data=instances.json. Everything is checked before the first step; what it
leaves is ordinary weights, `best.safetensors`, which name all that a run needs to use them."""

import json
import logging
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN

from pipeline.addresses import Address, place
from pipeline.commit import published_file
from pipeline.cores import available_cores
from pipeline.devices import bf16_is_native, resolve_device
from pipeline.errors import ConfigError, shorten
from pipeline.identity import run_name
from pipeline.lock import Writer, held
from pipeline.models import is_weights_file, model_format, tasks_of
from pipeline.parts import build
from pipeline.settings import Settings
from pipeline.text import aligned
from pipeline.trained import Trainable, read_trained, save_trained
from pipeline.training.augment import Augmentation
from pipeline.training.batches import Drawn, Place
from pipeline.training.beginning import begin_with
from pipeline.training.examples import Examples, ExampleSet
from pipeline.training.freezing import Frozen, usual_stages
from pipeline.training.learner import Figures, learner_of
from pipeline.training.logbook import summary_writer
from pipeline.training.loop import Keep, Recipe, Training, figures_text
from pipeline.training.report import write_report
from pipeline.training.ssd_loss import learn_from_empty_images
from pipeline.transforms import Preprocessing

log = logging.getLogger(__name__)
DETECTION = ("detect", "instances", "keypoints")
TASKS = (*DETECTION, "segment", "classify")
_DONE = "trained.json"


@dataclass(frozen=True)
class Plan:
    """What the settings ask for, checked."""

    settings: Settings
    examples: Examples
    model: Trainable
    network: nn.Module
    frozen: Frozen
    begun_with: str  # for people: what the weights are when training begins
    recipe: Recipe
    folder: Path


def train_text(settings: Settings) -> str:
    """Train, or go on, or find it complete."""
    check_task(settings)
    summary_writer()  # to be refused before anything is read
    examples: Examples = build(settings.parts["examples"], task=settings.task)
    plan = planned(settings, examples)
    if settings.dry_run:
        return told(plan)
    if (plan.folder / _DONE).is_file():
        return outcome_text(plan.folder)
    plan.folder.mkdir(parents=True, exist_ok=True)
    with held(plan.folder, Writer(), lambda alone: None):
        log.info("%s", told(plan))
        learn(plan)
    return outcome_text(plan.folder)


def check_task(settings: Settings) -> None:
    """Raise ConfigError for what cannot be learnt from."""
    if settings.task not in TASKS:
        raise ConfigError(f"task={settings.task} cannot be trained; expected {', '.join(TASKS)}.")
    if isinstance(place(settings.output), Address):
        raise ConfigError(f"output={settings.output}: train writes to this machine's disk; say a folder.")


def planned(settings: Settings, examples: Examples) -> Plan:
    """Raises ConfigError."""
    model = model_format(settings)
    if not isinstance(model, Trainable):
        raise ConfigError(f"model={settings.model} is a program and cannot be trained; choose a torchvision builder.")
    check_learnable(settings.task, model.trained(examples.categories).architecture, examples)
    device = resolve_device(settings.device)
    n_points = len(examples.keypoint_names) or None
    network = model.fresh(len(examples.categories), n_points)
    learn_from_empty_images(network)
    begun_with, trained_before = begin_with(network, model, settings, examples.categories)
    stages = settings.train["frozen_stages"]
    stages = stages if stages is not None else usual_stages(network) if trained_before else 0
    precision = settings.precision or ("bf16" if bf16_is_native(device) else "fp32")
    if precision == "fp16" and device == "cpu":
        raise ConfigError("precision=fp16 is for GPUs; on the CPU say bf16 or fp32.")
    sensitive = trained_before or isinstance(network, GeneralizedRCNN)
    recipe = recipe_of(settings, len(examples.training), 2e-4 if sensitive else 2e-3, precision, device)
    identity = determinants(settings, model, examples, recipe, stages, begun_with)
    folder = Path(settings.output).expanduser() / f"train-{run_name(identity)}"
    frozen = Frozen(network, stages, keep_statistics=trained_before and settings.task in DETECTION)
    return Plan(settings, examples, model, network, frozen, begun_with, recipe, folder.absolute())


def recipe_of(settings: Settings, n_examples: int, usual_rate: float, precision: str, device: str) -> Recipe:
    own = settings.train
    return Recipe(
        epochs=own["epochs"],
        batch_size=min(own["batch_size"], n_examples),
        rate=own["lr"] or usual_rate,
        weight_decay=own["weight_decay"],
        warmup=own["warmup"],
        ema=own["ema"],
        seed=settings.seed,
        precision=precision,
        device=device,
        workers=settings.workers or max(1, available_cores() // (2 if device == "cpu" else 1)),
    )


def check_learnable(task: str, architecture: str, examples: Examples) -> None:
    """Raise ConfigError for examples that have not what the network's losses ask for."""
    more = tasks_of(architecture) - {"detect"}
    if task == "detect" and more:
        raise ConfigError(
            f"task=detect: {architecture} learns from more than boxes; say task={' or '.join(sorted(more))}, or choose "
            "another model, such as fasterrcnn_resnet50_fpn."
        )
    if task == "keypoints" and not examples.keypoint_names:
        raise ConfigError("task=keypoints: the data has no keypoints, or does not name them (COCO: categories[].keypoints).")
    if task == "classify" and len(examples.categories) < 2:
        raise ConfigError(
            f"task=classify: the data has one class, {examples.categories[0]}; there is nothing to tell it from. Add a "
            "folder of images that are something else."
        )


def determinants(
    settings: Settings, model: Trainable, examples: Examples, recipe: Recipe, stages: int, begun_with: str
) -> dict[str, Any]:
    """What decides the weights. Not in it: the device and the number of workers."""
    how = {name: value for name, value in vars(recipe).items() if name not in ("device", "workers")}
    return {
        "task": {"name": settings.task},
        "model": called(settings),
        "architecture": model.trained(examples.categories, examples.keypoint_names).metadata(),
        "begun_with": begun_with,
        "examples": {**examples.identity, "categories": list(examples.categories)},
        "augment": sorted(settings.train["augment"]),
        "frozen_stages": stages,
        **how,
    }


def learn(plan: Plan) -> None:
    """From the examples to the weights and the report."""
    settings, examples, recipe = plan.settings, plan.examples, plan.recipe
    halves = Preprocessing.of(plan.model.transform)
    learner = learner_of(settings.task, examples.categories, examples.keypoint_names, halves.normalize.to(recipe.device))
    crop_hw, resize = input_size(plan.model.transform)
    augmentation = Augmentation.of(settings.task, settings.train["augment"], crop_hw, examples.keypoint_names, resize)
    as_judged = Augmentation.for_validation(settings.task, crop_hw, resize)
    channels = plan.model.trained(examples.categories).channels
    training = Training(
        plan.network,
        plan.frozen,
        learner,
        Drawn(examples.training, augmentation.in_order(channels), recipe.seed),
        Drawn(examples.validation, as_judged.in_order(channels), recipe.seed),
        validation_batches(examples.validation, recipe.batch_size, cropped=settings.task == "classify"),
        recipe,
        plan.folder,
        keeper(plan, learner.figure),
    )
    epochs = training.fit()
    best = training.best.epoch
    classes = read_trained(plan.folder / "best.safetensors").metrics["classes"]
    write_report(plan.folder, facts(plan), epochs, classes, learner.figure, best)
    with published_file(plan.folder / _DONE, replace=True) as stage:
        content = {"figure": learner.figure, "best_epoch": best, "log": epochs, **facts(plan)}
        stage.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (plan.folder / "checkpoint.pt").unlink(missing_ok=True)


def input_size(transform: Any) -> tuple[tuple[int, int] | None, int | None]:
    """(height and width that images are cropped to, their shorter side before that) of a torchvision preset; None where it
    has none. Segmentation's images, which its preset does not crop, become squares to make a batch."""
    crop, resize = getattr(transform, "crop_size", None), getattr(transform, "resize_size", None)
    side = int(resize[0] if isinstance(resize, list | tuple) else resize) if resize else None
    if crop is None:
        return ((side, side) if side else None), side
    return (int(crop[0]), int(crop[-1])), side


def validation_batches(examples: ExampleSet, batch_size: int, cropped: bool) -> list[list[Place]]:
    """Each of images of one size: detectors pad to the largest, which changes the others' results. `cropped`: all become of
    one size."""
    by_size: dict[tuple[int, int], list[Place]] = {}
    for number, (size_hw, _) in enumerate(examples.boxes()):
        by_size.setdefault((0, 0) if cropped else size_hw, []).append((0, number))
    return [some[at : at + batch_size] for some in by_size.values() for at in range(0, len(some), batch_size)]


def keeper(plan: Plan, figure: str) -> Keep:
    """Saves an epoch's weights as `last.safetensors`, and as `best.safetensors` while no other is better."""

    def keep(state: dict[str, Tensor], figures: Figures, classes: list[dict[str, Any]], epoch: int, best: bool) -> None:
        metrics = {"figure": figure, "epoch": epoch, **figures, "classes": classes}
        trained = plan.model.trained(plan.examples.categories, plan.examples.keypoint_names, metrics, facts(plan))
        for name in ("last", "best") if best else ("last",):
            save_trained(plan.folder / f"{name}.safetensors", state, trained)

    return keep


def facts(plan: Plan) -> dict[str, Any]:
    """Of a training, for those who come later. No paths, which are nobody else's business."""
    return {
        "task": plan.settings.task,
        "model": called(plan.settings),
        "begun_with": plan.begun_with,
        "classes": len(plan.examples.categories) - (plan.examples.categories[0] == "__background__"),
        "examples": len(plan.examples.training),
        "validation_examples": len(plan.examples.validation),
        "frozen_stages": plan.frozen.stages,
        "augment": list(plan.settings.train["augment"]),
        **{name: value for name, value in vars(plan.recipe).items() if name != "workers"},
        "data": dict(plan.examples.identity),
        "libraries": {name: version(name) for name in ("torch", "torchvision")},
    }


def called(settings: Settings) -> str:
    """The builder; a file by its name, wherever it is: what is in it is in `begun_with`."""
    return Path(settings.model).stem if is_weights_file(settings.model) else settings.model


def told(plan: Plan) -> str:
    """What is about to be done."""
    names = [name for name in plan.examples.categories if name != "__background__"]
    examples = len(plan.examples.training), len(plan.examples.validation)
    every = sum(one.numel() for one in plan.network.parameters()) / 1e6
    learning = sum(one.numel() for one in plan.network.parameters() if one.requires_grad) / 1e6
    rows = {
        "examples": f"{examples[0]:,} to learn from, {examples[1]:,} to be measured by",
        "classes": f"{len(names)}: {shorten(names)}",
        "begins with": plan.begun_with,
        "learns": f"{learning:.1f} of {every:.1f} M parameters; {plan.frozen.stages} stages of the backbone are frozen",
        "how": f"{plan.recipe.epochs} epochs in batches of {plan.recipe.batch_size}, {plan.recipe.precision}, "
        f"{plan.recipe.device}, learning rate {plan.recipe.rate:g}",
        "folder": str(plan.folder),
    }
    return f"Training {plan.settings.model} for task={plan.settings.task}\n{aligned(rows)}"


def outcome_text(folder: Path) -> str:
    """Of a training that has ended."""
    done = json.loads((folder / _DONE).read_text(encoding="utf-8"))
    main, best = done["figure"], done["best_epoch"]
    figures = {line["epoch"]: line["figures"] for line in done["log"]}
    rows = {
        "before": figures_text(figures[0], main),
        f"epoch {best} (best)": figures_text(figures[best], main),
        f"epoch {max(figures)} (last)": figures_text(figures[max(figures)], main),
        "weights": str(folder / "best.safetensors"),
        "report": str(folder / "report.html"),
    }
    usage = f"make run model={folder / 'best.safetensors'} input=DIR"
    return f"Trained: {done['examples']:,} examples, {done['epochs']} epochs\n{aligned(rows)}\n\nUse it: {usage}"
