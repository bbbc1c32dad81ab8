"""Extract torchvision's network from a loaded model, with the interface of a program file."""

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

_BEST = 100  # number of an image's best detections that are compared
_NEAR_SCORE, _NEAR_PX = 1e-3, 1.0  # detections that differ by less are the same
_DETECTOR_DIMS = 3


class SegmenterLogits(nn.Module):
    """A segmenter without auxiliary heads: (B, 3, h, w) -> {out: logits (B, C, h, w)}."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {"out": self.network(images)["out"]}


class SingleImageDetector(nn.Module):
    """A detector of one image.

    (3, H, W) float 0..1 -> boxes (N, 4) xyxy in its pixels, labels (N,), scores (N,).
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        found = self.network([image])[0]
        return found["boxes"], found["labels"], found["scores"]


def extract_network(model: Model) -> nn.Module:
    """Extract the network from a model, which must not be used any more.

    Hooks are removed, because exporters would export them with the network.

    Returns:
        A classifier (B, 3, h, w) -> logits (B, C), a `SegmenterLogits` or a `SingleImageDetector`.
    """
    wrapped = model.network
    made: nn.Module | None = None
    if isinstance(wrapped, DetectorNetwork):
        made = SingleImageDetector(wrapped.unwrap())
    elif isinstance(wrapped, SegmenterNetwork):
        made = SegmenterLogits(wrapped.body[1])
    elif isinstance(wrapped, ClassifierNetwork):
        made = wrapped.body.network
    if made is None:
        raise TypeError(f"{type(wrapped).__name__} is not a torchvision network")
    for module in made.modules():
        module._forward_hooks.clear()
        module._forward_pre_hooks.clear()
    return made.eval().requires_grad_(False)


def detector_limits(network: nn.Module) -> tuple[float, int | None]:
    """Return a detector's limits: the lowest score, and the most boxes of an image or None."""
    inner: Any = getattr(network, "network", None)
    inner = getattr(inner, "roi_heads", inner)
    return float(getattr(inner, "score_thresh", 0.0)), getattr(inner, "detections_per_img", None)


def compute_output(network: nn.Module, given: Tensor) -> Any:
    """Run a program or the original on one input.

    Returns:
        Logits, or {boxes, labels, scores} if the input is one image of a detector.
    """
    with torch.inference_mode():
        returned = network(given)
    return (
        parse_detections(returned)
        if given.dim() == _DETECTOR_DIMS
        else select_logits(returned).float()
    )


def measure_difference(expected: Any, found: Any) -> float:
    """Measure the difference of two outputs.

    For logits it is the largest difference, divided by the largest logit. For detections it is
    the share of the best detections without a counterpart. A counterpart has the same class, a
    score within 1e-3 and a box within 1 px. The result is infinity if the shapes differ.
    """
    if isinstance(expected, Mapping):
        return max(_unmatched_share(expected, found), _unmatched_share(found, expected))
    if expected.shape != found.shape:
        return float("inf")
    return float((expected - found).abs().max() / expected.abs().max().clamp(min=1e-6))


def _unmatched_share(these: Mapping[str, Tensor], others: Mapping[str, Tensor]) -> float:
    """Return the share of the best detections of `these` that have no counterpart in `others`."""
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
    """Return whether all outputs are empty detections, whose agreement proves nothing."""
    return all(isinstance(answer, Mapping) and not len(answer["scores"]) for answer in answers)
