"""The plan of a training: network, data, hyperparameters and folder, checked before step 1."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN

from pipeline.config.settings import Settings
from pipeline.core.cpu import count_available_cores
from pipeline.core.errors import ConfigError
from pipeline.core.locations import expand_home
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
    """A training that was checked and is ready to start."""

    settings: Settings
    examples: TrainingData
    model: TrainableFormat
    frozen: FrozenLayers  # the network, and its layers that are not trained
    begun_with: str  # identifies the initial weights, for users and for the fingerprint
    recipe: Recipe
    folder: Path


def build_training_plan(settings: Settings, examples: TrainingData) -> TrainingPlan:
    """Build the network and check it against the data.

    Raises:
        ConfigError: The model, the data and the settings do not fit together.
    """
    model = find_format(settings)
    if not isinstance(model, TrainableFormat):
        raise ConfigError(
            f"model={settings.model} is a program and cannot be trained; "
            "choose a torchvision builder."
        )
    architecture = model.build_metadata(examples.categories).architecture
    check_data_fits_task(settings.task, architecture, examples)

    device, precision = _resolve_device_and_precision(settings)
    n_points = len(examples.keypoint_names) or None
    network = model.build_for_training(len(examples.categories), n_points)
    check_sizes(network, examples.training, examples.validation)
    mine_backgrounds_over_batch(network)
    begun_with, is_pretrained = load_initial_weights(network, model, settings, examples.categories)

    stages = settings.train.frozen_stages
    if stages is None:
        stages = default_frozen_stages(network) if is_pretrained else 0
    needs_low_rate = is_pretrained or isinstance(network, GeneralizedRCNN)
    recipe = build_recipe(
        settings, len(examples.training), 2e-4 if needs_low_rate else 2e-3, precision, device
    )

    identity = compute_training_identity(settings, model, examples, recipe, stages, begun_with)
    folder = expand_home(settings.output) / f"train-{make_run_name(identity)}"
    frozen = FrozenLayers(
        network, stages, keep_statistics=is_pretrained and settings.task in DETECTION
    )
    return TrainingPlan(settings, examples, model, frozen, begun_with, recipe, folder.absolute())


def _resolve_device_and_precision(settings: Settings) -> tuple[str, str]:
    device = resolve_device(settings.device)
    precision = settings.precision or ("bf16" if has_native_bf16(device) else "fp32")
    if precision == "fp16" and device == "cpu":
        raise ConfigError("precision=fp16 is for GPUs; on the CPU say bf16 or fp32.")
    return device, precision


def build_recipe(
    settings: Settings, n_examples: int, default_rate: float, precision: str, device: str
) -> Recipe:
    """Build the recipe from the settings, with every null replaced."""
    # On a CPU the network needs cores too, so half of them are left for it.
    free_cores = count_available_cores() // (2 if device == "cpu" else 1)
    train = settings.train
    return Recipe(
        epochs=train.epochs,
        batch_size=min(train.batch_size, n_examples),
        rate=train.lr or default_rate,
        weight_decay=train.weight_decay,
        warmup=train.warmup,
        ema=train.ema,
        seed=settings.seed,
        precision=precision,
        device=device,
        workers=settings.workers or max(1, free_cores),
    )


def compute_training_identity(
    settings: Settings,
    model: TrainableFormat,
    examples: TrainingData,
    recipe: Recipe,
    stages: int,
    begun_with: str,
) -> dict[str, Any]:
    """Return everything that determines the weights; the folder's name is a hash of it.

    The device and the number of workers are left out.
    """
    excluded = ("device", "workers")
    hyperparameters = {name: value for name, value in vars(recipe).items() if name not in excluded}
    return {
        "task": {"name": settings.task},
        "model": format_model_name(settings),
        "architecture": model.build_metadata(
            examples.categories, examples.keypoint_names
        ).to_text_metadata(),
        "begun_with": begun_with,
        "examples": {**examples.identity, "categories": list(examples.categories)},
        "augment": sorted(settings.train.augment),
        "frozen_stages": stages,
        **hyperparameters,
    }


def format_model_name(settings: Settings) -> str:
    """Return the builder's name, or the stem of a weights file.

    The folder of the file does not matter: `begun_with` identifies the content.
    """
    return Path(settings.model).stem if is_weights_file(settings.model) else settings.model
