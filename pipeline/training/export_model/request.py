"""Check a request for an export before weights are loaded, and make the settings to run it."""

import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torchvision.models import WeightsEnum

from pipeline.config.settings import Settings
from pipeline.core.errors import ConfigError
from pipeline.core.locations import Uri, parse_location
from pipeline.models.class_names import add_background, load_categories
from pipeline.runs.components import Components
from pipeline.training.export_model.exporters import PROGRAM_FILES

TASKS = ("classify", "detect", "segment")
_INSTEAD = {
    "embed": "Say task=classify: what is exported is the classifier, head included.",
    "instances": "Say task=detect for its boxes without their masks.",
    "keypoints": "Say task=detect for its boxes without their points.",
    "video": "No program format takes clips.",
}
_EAGER = {
    "_target_": "pipeline.inference.engines.eager.Eager",
    "device": "cpu",
    "precision": None,
}  # the same settings as in conf/engine/eager.yaml


def check_request(settings: Settings) -> Settings:
    """Check the settings, and return them changed to the CPU and fp32, for the comparison.

    Raises:
        ConfigError: The task, the format or the output is not supported.
    """
    if settings.to is None:
        raise ConfigError(f"export-model makes a program: say to={', to='.join(PROGRAM_FILES)}.")
    if settings.task not in TASKS:
        raise ConfigError(
            f"task={settings.task}: program files do {', '.join(TASKS)}. "
            f"{_INSTEAD.get(settings.task, '')}"
        )
    if isinstance(parse_location(settings.output), Uri):
        raise ConfigError(
            f"output={settings.output}: export-model writes to a disk; "
            "name a folder of this machine."
        )
    if settings.to == "pt2" and settings.task == "detect":
        raise ConfigError(
            "to=pt2: torch.export cannot follow torchvision's detectors, whose number of boxes "
            "depends on what an image shows. Say to=onnx or to=torchscript."
        )
    if settings.to == "onnx":
        _check_onnx()
    return replace(
        settings, components={**settings.components, "engine": _EAGER}, device="cpu", precision=None
    )


def find_preprocessing_weights(settings: Settings, parts: Components) -> str | None:
    """Return the name of the torchvision weights that have the model's preprocessing.

    It is None for a detector, whose program contains the preprocessing.

    Raises:
        ConfigError: The model is not a floating-point network of a torchvision builder.
    """
    model: Any = parts.format
    like = getattr(model, "reference_weights", None)
    if not isinstance(like, WeightsEnum):
        raise ConfigError(
            f"model={settings.model} is a program already; "
            "export-model takes a torchvision builder."
        )
    if model.quantized:
        raise ConfigError(
            f"model={settings.model}: int8 networks are not exported. "
            f"Export {model.name.partition('_')[2]}."
        )
    if settings.task == "detect":
        return None
    if repr(like.transforms()) != repr(model.transform):
        raise ConfigError(
            f"model={settings.model} is prepared in a way of its own ({model.transform!r}), "
            f"not as {like!r}: a program file can only name the preprocessing of torchvision's "
            "weights."
        )
    return f"{type(like).__name__}.{like.name}"


def write_categories(categories: tuple[str, ...], file: Path, detector: bool) -> None:
    """Write one name per line. Raises ConfigError if reading the file gives other names."""
    file.write_text("".join(f"{name}\n" for name in categories), encoding="utf-8")
    read = load_categories(str(file))
    if (add_background(read) if detector else read) != categories:
        odd = [
            name
            for name in categories
            if name != name.strip() or not name or len(name.splitlines()) > 1
        ]
        raise ConfigError(
            f"categories: these names cannot stand on a line of their own: {odd or categories[:1]}."
        )


def settings_for_program(
    settings: Settings, folder: Path, preprocess: str | None, one_by_one: bool = False
) -> Settings:
    """Return the settings of a run with the program in `folder` instead of the model.

    Args:
        settings: The settings of the export.
        folder: The folder of the program.
        preprocess: Name of the weights with its preprocessing, or None.
        one_by_one: Whether the program accepts only batches of one image.
    """
    return replace(
        settings,
        model=str(settings.to),
        weights=str(folder / PROGRAM_FILES[str(settings.to)]),
        categories=str(folder / "categories.txt"),
        preprocess=preprocess or "DEFAULT",
        model_args={},
        trust_code=True,
        batch_size=1 if one_by_one else settings.batch_size,
    )


def format_run_command(run: Settings) -> str:
    """Format the command that runs the program."""
    words: Mapping[str, str | None] = {
        "task": run.task,
        "model": run.model,
        "weights": run.weights,
        "categories": run.categories,
        "preprocess": None if run.preprocess == "DEFAULT" else run.preprocess,
        "channels": None if run.channels == "rgb" else run.channels,
        "trust_code": None if run.model == "onnx" else "true",  # ONNX files are data
        "batch_size": "1" if run.batch_size == 1 else None,
    }
    return " ".join(
        [
            "make run",
            *(shlex.quote(f"{key}={value}") for key, value in words.items() if value),
            "input=DIR",
        ]
    )


def _check_onnx() -> None:
    try:
        import onnx
        import onnxruntime
    except ImportError as error:
        raise ConfigError(
            f"to=onnx needs {error.name}, which is not installed: "
            "pip install 'visionbatch[train]', or in a clone "
            ".venv/bin/pip install -c constraints.txt -e '.[train]'"
        ) from None
    del onnx, onnxruntime
