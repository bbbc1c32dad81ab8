"""`export-model`: a model as an ONNX, torch.export or TorchScript program, compared with itself on real images.

It leaves `<output>/exported/<model>-<to>/`: the program, categories.txt, and parity.json with what was found.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import closing, nullcontext
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.config.settings import Settings
from pipeline.core.errors import ConfigError, PipelineError
from pipeline.core.types import Entry, Shard
from pipeline.inference.fusion import fold_batch_norms
from pipeline.inference.predictor import Predictor
from pipeline.models.registry import find_format
from pipeline.runs.components import Components, build_components, load_predictor, load_reference
from pipeline.storage.publish import publish_folder
from pipeline.training.export_model.exporters import FILES, attempts
from pipeline.training.export_model.parity import Limits, parity
from pipeline.training.export_model.reference import original, own_limits
from pipeline.training.export_model.report import Export
from pipeline.training.export_model.request import (
    checked,
    command,
    preprocessing,
    running,
    write_categories,
)
from pipeline.training.export_model.shape_probes import (
    Probes,
    made,
    probes_for_detections,
    probes_for_logits,
)
from pipeline.training.export_model.speed import forward_speeds

_IMAGES = 32  # that parity is measured on, where limit= says nothing
_LOOKED_AT = 8  # images in which a detector may find something to be exported with
_PHOTOGRAPHS_HW = ((480, 640), (640, 480))  # to see what a preprocessing makes of them


def export_model_text(settings: Settings) -> str:
    """Raises ConfigError before a weight is loaded, and PipelineError where a program does not give the model's results; its
    files are left to be looked at."""
    settings = checked(settings)
    parts = build_components(settings)
    preprocess = preprocessing(settings, parts)
    input_hw = _input_hw(settings, parts)
    target = (
        Path(settings.output).expanduser()
        / "exported"
        / f"{Path(settings.model).stem}-{settings.to}"
    )
    with closing(parts.source), publish_folder(target, replace=True) as stage:
        write_categories(parts.spec.categories, stage / "categories.txt", settings.task == "detect")
        done = _export(settings, parts, preprocess, input_hw, stage, target)
        record = json.dumps(done.record(), indent=1, ensure_ascii=False)
        (stage / "parity.json").write_text(f"{record}\n", encoding="utf-8")
    if done.faults:
        raise PipelineError(
            f"{done.text()}\n\nThe exported program is NOT equal to eager: {'; '.join(done.faults)}."
        )
    return done.text()


def _export(
    settings: Settings,
    parts: Components,
    preprocess: str | None,
    input_hw: tuple[int, int] | None,
    stage: Path,
    target: Path,
) -> Export:
    entries = tuple(islice(parts.source.entries(), settings.limit or _IMAGES))
    eager = original(parts.format.load())
    probes = _probes(settings, parts, eager, input_hw, entries)
    network = original(parts.format.load())
    with torch.no_grad():
        fold_batch_norms(
            network
        )  # as the pipeline's own engines do: the same within rounding, in fewer steps
    file = FILES[str(settings.to)]
    run = running(settings, stage, preprocess)
    ways = attempts(str(settings.to), settings.task, network, probes.example)
    how, held = made(ways, stage / file, lambda: _opened(run), probes)
    here, fp32 = _predictors(
        settings, parts, running(settings, stage, preprocess, not held.any_batch), entries
    )
    compared = parity(here, fp32, Shard(0, 0, entries), _limits(settings, parts, eager))
    image = next(_readable(settings, parts, entries), None)
    most = parts.batch_size or here.loader.batch_size
    return Export(
        settings=settings,
        spec=parts.spec,
        file=target / file,
        command=command(running(settings, target, preprocess, not held.any_batch)),
        how=how,
        held=held,
        input_hw=input_hw,
        parity=compared,
        speed={} if image is None else forward_speeds(image, eager, fp32, here, most),
    )


def _opened(run: Settings) -> nn.Module:
    """The program, as the pipeline's own format opens it."""
    stored: Any = find_format(run)
    program: nn.Module = stored.program()
    return program


def _predictors(
    settings: Settings, parts: Components, run: Settings, entries: Sequence[Entry]
) -> tuple[Predictor, Predictor]:
    """(the program, eager in fp32), both as a run has them, over the same source."""
    try:
        exported = replace(build_components(run), source=parts.source)
    except ConfigError as error:
        raise PipelineError(f"The program was made, but a run cannot take it: {error}") from None
    here = load_predictor(run, exported, len(entries), entries)
    return here, load_reference(settings, parts, here.loader)


def _input_hw(settings: Settings, parts: Components) -> tuple[int, int] | None:
    """The size that a classifier's preprocessing makes of every image; None for what takes others."""
    if settings.task != "classify":
        return None
    stored: Any = parts.format
    sizes = {
        tuple(stored.transform(torch.zeros(3, *size, dtype=torch.uint8)).shape[-2:])
        for size in _PHOTOGRAPHS_HW
    }
    if len(sizes) > 1:
        raise ConfigError(
            f"model={settings.model}: its preprocessing makes images of several sizes ({sorted(sizes)})."
        )
    height, width = sizes.pop()
    return height, width


def _probes(
    settings: Settings,
    parts: Components,
    eager: nn.Module,
    input_hw: tuple[int, int] | None,
    entries: Sequence[Entry],
) -> Probes:
    if settings.task != "detect":
        return probes_for_logits(eager, input_hw)
    images = (
        image.flip(0) if settings.channels == "bgr" else image
        for image in _readable(settings, parts, entries)
    )
    return probes_for_detections(eager, islice(images, _LOOKED_AT))


def _readable(settings: Settings, parts: Components, entries: Sequence[Entry]) -> Iterator[Tensor]:
    """(3, H, W) uint8 RGB, those that can be read."""
    for entry in entries:
        (pixels,) = parts.source.read([entry], settings.max_pixels, lambda stage: nullcontext())
        if isinstance(pixels, Tensor):
            yield pixels


def _limits(settings: Settings, parts: Components, eager: nn.Module) -> Limits:
    """The settings' and a detector's own."""
    least, most = own_limits(eager)
    given = [one for one in (most, settings.max_detections, settings.top_k) if one is not None]
    return Limits([max(one, least) for one in parts.filters.min_scores], min(given, default=None))
