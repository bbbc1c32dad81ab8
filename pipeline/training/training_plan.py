"""What the settings ask for, built and checked before the first step."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN

from pipeline.config.settings import Settings
from pipeline.core.cpu import count_available_cores
from pipeline.core.errors import ConfigError
from pipeline.inference.devices import has_native_bf16, resolve_device
from pipeline.models.registry import find_format
from pipeline.models.trainable import TrainableFormat
from pipeline.models.weights import is_weights_file
from pipeline.runs.fingerprint import make_run_name
from pipeline.training.data_protocols import TrainingData
from pipeline.training.freezing import FrozenLayers, default_frozen_stages
from pipeline.training.initialization import load_initial_weights
from pipeline.training.recipe import Recipe
from pipeline.training.ssd_loss import mine_backgrounds_over_batch
from pipeline.training.task_registry import DETECTION, check_data_fits_task, check_sizes


@dataclass(frozen=True)
class TrainingPlan:
    """What the settings ask for, checked."""

    settings: Settings
    examples: TrainingData
    model: TrainableFormat
    frozen: FrozenLayers  # the network, and what of it does not learn
    begun_with: str  # for people: what the weights are when training begins
    recipe: Recipe
    folder: Path


def build_training_plan(settings: Settings, examples: TrainingData) -> TrainingPlan:
    """Raises ConfigError."""
    model = find_format(settings)
    if not isinstance(model, TrainableFormat):
        raise ConfigError(
            f"model={settings.model} is a program and cannot be trained; choose a torchvision builder."
        )
    check_data_fits_task(
        settings.task, model.build_metadata(examples.categories).architecture, examples
    )
    device = resolve_device(settings.device)
    n_points = len(examples.keypoint_names) or None
    network = model.build_for_training(len(examples.categories), n_points)
    check_sizes(network, examples.training, examples.validation)
    mine_backgrounds_over_batch(network)
    begun_with, trained_before = load_initial_weights(network, model, settings, examples.categories)
    stages = settings.train.frozen_stages
    stages = (
        stages if stages is not None else default_frozen_stages(network) if trained_before else 0
    )
    precision = settings.precision or ("bf16" if has_native_bf16(device) else "fp32")
    if precision == "fp16" and device == "cpu":
        raise ConfigError("precision=fp16 is for GPUs; on the CPU say bf16 or fp32.")
    sensitive = trained_before or isinstance(network, GeneralizedRCNN)
    recipe = build_recipe(
        settings, len(examples.training), 2e-4 if sensitive else 2e-3, precision, device
    )
    identity = training_identity(settings, model, examples, recipe, stages, begun_with)
    folder = Path(settings.output).expanduser() / f"train-{make_run_name(identity)}"
    frozen = FrozenLayers(
        network, stages, keep_statistics=trained_before and settings.task in DETECTION
    )
    return TrainingPlan(settings, examples, model, frozen, begun_with, recipe, folder.absolute())


def build_recipe(
    settings: Settings, n_examples: int, usual_rate: float, precision: str, device: str
) -> Recipe:
    own = settings.train
    return Recipe(
        epochs=own.epochs,
        batch_size=min(own.batch_size, n_examples),
        rate=own.lr or usual_rate,
        weight_decay=own.weight_decay,
        warmup=own.warmup,
        ema=own.ema,
        seed=settings.seed,
        precision=precision,
        device=device,
        workers=settings.workers
        or max(1, count_available_cores() // (2 if device == "cpu" else 1)),
    )


def training_identity(
    settings: Settings,
    model: TrainableFormat,
    examples: TrainingData,
    recipe: Recipe,
    stages: int,
    begun_with: str,
) -> dict[str, Any]:
    """What decides the weights. Not in it: the device and the number of workers."""
    how = {name: value for name, value in vars(recipe).items() if name not in ("device", "workers")}
    return {
        "task": {"name": settings.task},
        "model": model_label(settings),
        "architecture": model.build_metadata(
            examples.categories, examples.keypoint_names
        ).to_text_metadata(),
        "begun_with": begun_with,
        "examples": {**examples.identity, "categories": list(examples.categories)},
        "augment": sorted(settings.train.augment),
        "frozen_stages": stages,
        **how,
    }


def model_label(settings: Settings) -> str:
    """The builder; a file by its name, wherever it is: what is in it is in `begun_with`."""
    return Path(settings.model).stem if is_weights_file(settings.model) else settings.model
