"""torchvision's own network out of a loaded model, with the interface that a program file has (`programs.ProgramFile`)."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.core.types import Model
from pipeline.models.networks.classifier import ClassifierNetwork
from pipeline.models.networks.detector import DetectorNetwork
from pipeline.models.networks.segmenter import SegmenterNetwork
from pipeline.models.programs.detections import parse_detections
from pipeline.models.programs.logits import select_logits

_BEST = 100  # detections of an image that are compared
_NEAR_SCORE, _NEAR_PX = 1e-3, 1.0  # two detections that differ by less are one
_DETECTOR_DIMS = 3


class SegmenterLogits(nn.Module):
    """(B, 3, h, w) -> {out: logits (B, C, h, w)}, without auxiliary heads."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {"out": self.network(images)["out"]}


class SingleImageDetector(nn.Module):
    """(3, H, W) float 0..1 -> boxes (N, 4) xyxy in its pixels, labels (N,), scores (N,)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        found = self.network([image])[0]
        return found["boxes"], found["labels"], found["scores"]


def extract_network(model: Model) -> nn.Module:
    """(B, 3, h, w) prepared -> logits (B, C); or `Regions`; or `OneImage`. Takes the network out of the model, which is not
    to be called any more: its hooks, which exporters would take for a part of the network, are removed."""
    wrapped = model.network
    made: nn.Module | None = None
    if isinstance(wrapped, DetectorNetwork):
        made = SingleImageDetector(wrapped.unwrap())
    elif isinstance(wrapped, SegmenterNetwork):
        made = SegmenterLogits(wrapped.body[1])
    elif isinstance(wrapped, ClassifierNetwork):
        made = wrapped.body.network
    if made is None:
        raise TypeError(f"{type(wrapped).__name__} is no network of torchvision's")
    for module in made.modules():
        module._forward_hooks.clear()
        module._forward_pre_hooks.clear()
    return made.eval().requires_grad_(False)


def detector_limits(network: nn.Module) -> tuple[float, int | None]:
    """(least score, most boxes of an image) that a detector itself reports; nothing for others."""
    inner: Any = getattr(network, "network", None)
    inner = getattr(inner, "roi_heads", inner)
    return float(getattr(inner, "score_thresh", 0.0)), getattr(inner, "detections_per_img", None)


def compute_output(network: nn.Module, given: Tensor) -> Any:
    """What a program or the original says of one input: logits, or {boxes, labels, scores} of an image."""
    with torch.inference_mode():
        returned = network(given)
    return (
        parse_detections(returned)
        if given.dim() == _DETECTOR_DIMS
        else select_logits(returned).float()
    )


def measure_difference(expected: Any, found: Any) -> float:
    """Of two answers. Logits: the largest difference as a part of the largest logit. Detections: which part of the best has
    none in the other answer of its class, score (1e-3) and place (1 px). Infinity: of other shapes."""
    if isinstance(expected, Mapping):
        return max(_unmatched_share(expected, found), _unmatched_share(found, expected))
    if expected.shape != found.shape:
        return float("inf")
    return float((expected - found).abs().max() / expected.abs().max().clamp(min=1e-6))


def _unmatched_share(these: Mapping[str, Tensor], others: Mapping[str, Tensor]) -> float:
    """Part of the best of `these` that have no like among `others`. As sets: near-ties may change places."""
    best = these["scores"].argsort(descending=True)[:_BEST]
    if not len(best):
        return 0.0
    near = (these["scores"][best, None] - others["scores"]).abs() <= _NEAR_SCORE
    near &= these["labels"][best, None] == others["labels"]
    near &= (these["boxes"][best, None] - others["boxes"]).abs().amax(
        dim=2
    ) <= _NEAR_PX  # (best, others, 4)
    return 1 - float(near.any(dim=1).float().mean())


def all_detections_empty(answers: Sequence[Any]) -> bool:
    """Whether detections were looked for, and none found: agreement about these shows nothing."""
    return all(isinstance(one, Mapping) and not len(one["scores"]) for one in answers)
