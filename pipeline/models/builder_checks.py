"""What may be said to a torchvision builder: arguments that it would swallow without a word, files it cannot use."""

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
from pipeline.models.registry import FASTERRCNN
from pipeline.models.weights import get_cache_path

log = logging.getLogger(__name__)
_OURS = {"weights", "weights_backbone", "num_classes", "progress", "quantize", "backend"}


def check_arguments(name: str, model_args: Mapping[str, Any], file: Path | None) -> None:
    """Raise ConfigError for `model_args` that the builder does not have, and for a file that only torchvision can load."""
    if ours := _OURS & set(model_args):
        raise ConfigError(
            f"model_args: {sorted(ours)} are set by model=, weights= and categories=."
        )
    known = _arguments(get_builder(name))
    for given in set(model_args) - known:  # torchvision's detectors would swallow it without a word
        expected = ", ".join(sorted(known))
        raise ConfigError(
            f"model_args: {name} has no argument {given!r}.{suggest_nearest(given, known)} It has {expected}."
        )
    for member in get_model_weights(name) if name != FASTERRCNN else ():
        if file and file.name == Path(member.url).name:
            raise ConfigError(
                f"weights={file} is torchvision's own file, which its builder sets up in a way of its own. "
                f"Move it to {get_cache_path(member)} and say weights={member.name}."
            )


def check_quantized(name: str, weights: WeightsEnum, file: Path | None) -> None:
    """Raise ConfigError where this machine has not the builder's int8 engine, and for a file."""
    engine, engines = weights.meta["backend"], torch.backends.quantized.supported_engines
    if engine not in engines:
        raise ConfigError(
            f"model={name} needs torch's int8 engine {engine}; on this machine it has {', '.join(engines)}."
        )
    if file:
        raise ConfigError(
            f"weights={file}: quantized builders keep their weights packed, not as plain tensors, and no file is "
            "read for them. Leave weights= out, or say weights=random. Your own int8 program: model=torchscript or onnx."
        )


def _arguments(builder: Callable[..., Any]) -> set[str]:
    """The names that a builder and the class it returns take."""
    signature = inspect.signature(builder)
    parameters = dict(signature.parameters)
    if inspect.isclass(signature.return_annotation):
        parameters |= inspect.signature(signature.return_annotation).parameters
    named = (p.name for p in parameters.values() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL))
    return set(named) - {"backbone", "progress", "weights"}


def warn_of_own_limits(network: nn.Module, lowest: float, most: int | None) -> None:
    """Detectors drop low scores and all but the best themselves; a setting beyond that would silently change nothing."""
    own = getattr(getattr(network, "roi_heads", network), "score_thresh", None)
    cap = getattr(getattr(network, "roi_heads", network), "detections_per_img", None)
    if cap is not None and most is not None and most > cap:
        log.warning(
            "This model itself reports at most %d boxes an image; model_args raises that.", cap
        )
    if own is not None and lowest < own:
        key = "box_score_thresh" if hasattr(network, "roi_heads") else "score_thresh"
        log.warning(
            "This model itself reports nothing below %g; model_args={%s: %g} lowers that.",
            own,
            key,
            lowest,
        )
