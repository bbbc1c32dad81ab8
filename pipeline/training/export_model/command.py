"""The verb `export-model`: write a model as an ONNX, torch.export or TorchScript program.

The program is compared with the model on real images. The folder `<output>/exported/<model>-<to>/`
contains the program, categories.txt, and parity.json with the comparison.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import closing, nullcontext
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from pipeline.config.settings import Settings
from pipeline.core.errors import ConfigError, PipelineError
from pipeline.core.locations import expand_home
from pipeline.core.types import Entry, Shard
from pipeline.inference.fusion import fold_batch_norms
from pipeline.inference.predictor import Predictor
from pipeline.models.programs.base import ProgramFile
from pipeline.models.registry import find_format
from pipeline.runs.components import Components, build_components, load_predictor, load_reference
from pipeline.storage.publish import publish_folder
from pipeline.training.export_model.export_result import ExportResult
from pipeline.training.export_model.exporters import PROGRAM_FILES, list_export_methods
from pipeline.training.export_model.parity import RowLimits, measure_parity
from pipeline.training.export_model.reference_network import detector_limits, extract_network
from pipeline.training.export_model.request import (
    check_request,
    find_preprocessing_weights,
    format_run_command,
    settings_for_program,
    write_categories,
)
from pipeline.training.export_model.shape_probes import (
    ProbeSet,
    build_detection_probes,
    build_logit_probes,
    write_best_program,
)
from pipeline.training.export_model.speed import measure_forward_speeds

_PARITY_IMAGES = 32  # number of images for the comparison if limit= is not set
_PROBE_IMAGES = 8  # a detector must find something in one of these images
_PHOTOGRAPHS_HW = ((480, 640), (640, 480))  # typical image sizes, to test the preprocessing


def export_and_compare(settings: Settings) -> str:
    """Export a model, compare the program with it, and return the text to print.

    Raises:
        ConfigError: The model cannot be exported. It is raised before weights are loaded.
        PipelineError: The program does not give the model's results. The files are kept for
            inspection.
    """
    settings = check_request(settings)
    parts = build_components(settings)
    preprocess = find_preprocessing_weights(settings, parts)
    input_hw = _find_input_hw(settings, parts)
    target = (
        expand_home(settings.output) / "exported" / f"{Path(settings.model).stem}-{settings.to}"
    )
    with closing(parts.source), publish_folder(target, replace=True) as stage:
        write_categories(parts.spec.categories, stage / "categories.txt", settings.task == "detect")
        done = _export_to(settings, parts, preprocess, input_hw, stage, target)
        record = json.dumps(done.record(), indent=1, ensure_ascii=False)
        (stage / "parity.json").write_text(f"{record}\n", encoding="utf-8")
    if done.faults:
        raise PipelineError(
            f"{done.text()}\n\nThe exported program is NOT equal to eager: "
            f"{'; '.join(done.faults)}."
        )
    return done.text()


def _export_to(
    settings: Settings,
    parts: Components,
    preprocess: str | None,
    input_hw: tuple[int, int] | None,
    stage: Path,
    target: Path,
) -> ExportResult:
    entries = tuple(islice(parts.source.entries(), settings.limit or _PARITY_IMAGES))
    eager = extract_network(parts.format.load())
    probes = _build_probes(settings, parts, eager, input_hw, entries)
    network = extract_network(parts.format.load())
    with torch.no_grad():
        # Folding saves operators and changes only rounding. The pipeline's engines do it too.
        fold_batch_norms(network)
    file = PROGRAM_FILES[str(settings.to)]
    run = settings_for_program(settings, stage, preprocess)
    methods = list_export_methods(str(settings.to), settings.task, network, probes.example)
    how, limits = write_best_program(methods, stage / file, lambda: _load_program(run), probes)
    exported, fp32 = _build_predictors(
        settings,
        parts,
        settings_for_program(settings, stage, preprocess, not limits.any_batch),
        entries,
    )
    compared = measure_parity(
        exported, fp32, Shard(0, 0, entries), _find_limits(settings, parts, eager)
    )
    image = next(_read_images(settings, parts, entries), None)
    most = parts.batch_size or exported.batch_size
    return ExportResult(
        settings=settings,
        spec=parts.spec,
        file=target / file,
        command=format_run_command(
            settings_for_program(settings, target, preprocess, not limits.any_batch)
        ),
        how=how,
        limits=limits,
        input_hw=input_hw,
        parity=compared,
        speed={} if image is None else measure_forward_speeds(image, eager, fp32, exported, most),
    )


def _load_program(run: Settings) -> nn.Module:
    """Load the program with the pipeline's own format, as a run does."""
    return cast(ProgramFile, find_format(run)).load_program()


def _build_predictors(
    settings: Settings, parts: Components, run: Settings, entries: Sequence[Entry]
) -> tuple[Predictor, Predictor]:
    """Return predictors of the program and of the eager model in fp32, over the same source."""
    try:
        exported = replace(build_components(run), source=parts.source)
    except ConfigError as error:
        raise PipelineError(f"The program was made, but a run cannot take it: {error}") from None
    exported_predictor = load_predictor(run, exported, len(entries), entries)
    return exported_predictor, load_reference(settings, parts, exported_predictor)


def _find_input_hw(settings: Settings, parts: Components) -> tuple[int, int] | None:
    """Return the input size that a classifier's preprocessing makes; None for other tasks."""
    if settings.task != "classify":
        return None
    stored: Any = parts.format
    sizes = {
        tuple(stored.transform(torch.zeros(3, *size, dtype=torch.uint8)).shape[-2:])
        for size in _PHOTOGRAPHS_HW
    }
    if len(sizes) > 1:
        raise ConfigError(
            f"model={settings.model}: its preprocessing makes images of several sizes "
            f"({sorted(sizes)})."
        )
    height, width = sizes.pop()
    return height, width


def _build_probes(
    settings: Settings,
    parts: Components,
    eager: nn.Module,
    input_hw: tuple[int, int] | None,
    entries: Sequence[Entry],
) -> ProbeSet:
    if settings.task != "detect":
        return build_logit_probes(eager, input_hw)
    images = (
        image.flip(0) if settings.channels == "bgr" else image
        for image in _read_images(settings, parts, entries)
    )
    return build_detection_probes(eager, islice(images, _PROBE_IMAGES))


def _read_images(
    settings: Settings, parts: Components, entries: Sequence[Entry]
) -> Iterator[Tensor]:
    """Yield the images that can be read, (3, H, W) uint8 RGB."""
    for entry in entries:
        (pixels,) = parts.source.read([entry], settings.max_pixels, lambda stage: nullcontext())
        if isinstance(pixels, Tensor):
            yield pixels


def _find_limits(settings: Settings, parts: Components, eager: nn.Module) -> RowLimits:
    """Combine the limits on rows in the settings with the limits inside a detector."""
    least, most = detector_limits(eager)
    given = [
        limit for limit in (most, settings.max_detections, settings.top_k) if limit is not None
    ]
    return RowLimits(
        [max(limit, least) for limit in parts.filters.min_scores], min(given, default=None)
    )
