"""Check the settings of a torchvision builder: arguments, files, the int8 engine, limits."""

import inspect
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torchvision.models import WeightsEnum, get_model_weights

from pipeline.core.errors import ConfigError, suggest_nearest
from pipeline.models.backbones import get_builder
from pipeline.models.torchvision_builders import FASTERRCNN
from pipeline.models.weights import get_cache_path

log = logging.getLogger(__name__)
_SET_ELSEWHERE = {  # arguments that model=, weights= and categories= set
    "weights",
    "weights_backbone",
    "num_classes",
    "progress",
    "quantize",
    "backend",
}


def check_arguments(name: str, model_args: Mapping[str, Any], file: Path | None) -> None:
    """Check `model_args` and the weights' file of a builder.

    torchvision's detectors ignore arguments that they do not know.

    Raises:
        ConfigError: The builder does not have an argument, or only torchvision can load the file.
    """
    if reserved := _SET_ELSEWHERE & set(model_args):
        raise ConfigError(
            f"model_args: {sorted(reserved)} are set by model=, weights= and categories=."
        )
    known = _list_parameters(get_builder(name))
    for argument in set(model_args) - known:
        raise ConfigError(
            f"model_args: {name} has no argument {argument!r}.{suggest_nearest(argument, known)} "
            f"It has {', '.join(sorted(known))}."
        )
    for member in get_model_weights(name) if name != FASTERRCNN else ():
        if file and file.name == Path(member.url).name:
            raise ConfigError(
                f"weights={file} is torchvision's own file, which its builder sets up in a way of "
                f"its own. Move it to {get_cache_path(member)} and say weights={member.name}."
            )


def check_quantized(name: str, weights: WeightsEnum, file: Path | None) -> None:
    """Check that an int8 builder can run here.

    Raises:
        ConfigError: This machine does not have the builder's int8 engine, or a file is given.
    """
    engine, engines = weights.meta["backend"], torch.backends.quantized.supported_engines
    if engine not in engines:
        raise ConfigError(
            f"model={name} needs torch's int8 engine {engine}; "
            f"on this machine it has {', '.join(engines)}."
        )
    if file:
        raise ConfigError(
            f"weights={file}: quantized builders keep their weights packed, not as plain tensors, "
            "and no file is read for them. Leave weights= out, or say weights=random. "
            "Your own int8 program: model=torchscript or onnx."
        )


def warn_of_model_limits(
    network: nn.Module, min_score: float | None, max_detections: int | None
) -> None:
    """Log a warning where a detector's own limits are stricter than the settings.

    Args:
        network: A torchvision detector, which drops low scores and all but the best boxes itself.
        min_score: The lowest score that the user asks for; None if the user gave none.
        max_detections: The number of boxes per image that the settings allow.
    """
    owner = getattr(network, "roi_heads", network)
    own_max = getattr(owner, "detections_per_img", None)
    if own_max is not None and max_detections is not None and max_detections > own_max:
        log.warning(
            "This model itself reports at most %d boxes an image; model_args raises that.", own_max
        )

    own_min = getattr(owner, "score_thresh", None)
    if own_min is not None and min_score is not None and min_score < own_min:
        argument = "box_score_thresh" if hasattr(network, "roi_heads") else "score_thresh"
        log.warning(
            "This model itself reports nothing below %g; model_args={%s: %g} lowers that.",
            own_min,
            argument,
            min_score,
        )


def _list_parameters(builder: Callable[..., Any]) -> set[str]:
    """Return the names of the arguments that a builder and the class it returns take."""
    signature = inspect.signature(builder)
    parameters = dict(signature.parameters)
    if inspect.isclass(signature.return_annotation):
        parameters |= inspect.signature(signature.return_annotation).parameters
    named = (p.name for p in parameters.values() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL))
    return set(named) - {"backbone", "progress", "weights"}
