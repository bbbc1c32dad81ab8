"""Learn a class for each pixel (task=segment)."""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from pipeline.ops.masks import IGNORED_LABEL
from pipeline.results.evaluation.result import mean_of_defined
from pipeline.results.evaluation.segmentation import measure_class_iou
from pipeline.training.data_protocols import Example
from pipeline.training.learners.learner import AUXILIARY_WEIGHT, Figures, Losses, stack_images


class SegmentationLearner:
    """Computes the cross-entropy of the labelled pixels. The figures are the IoU of each class."""

    figure = "miou"

    def __init__(self, categories: Sequence[str], normalize: nn.Module) -> None:
        """Set the class names and the normalization.

        Args:
            categories: Class names; the index is the class id, and 0 is the background.
            normalize: Turns (B, 3, h, w) uint8 images into network input.
        """
        self.categories, self.normalize = categories, normalize

    def compute_losses(self, network: nn.Module, batch: Sequence[Example], device: str) -> Losses:
        truth = torch.stack([example.target["mask"] for example in batch]).to(device)
        outputs = network(stack_images(batch, self.normalize, device))

        losses = {"pixels": compute_pixel_loss(outputs["out"], truth)}
        if "aux" in outputs:
            losses["auxiliary"] = AUXILIARY_WEIGHT * compute_pixel_loss(outputs["aux"], truth)
        return losses

    def compute_figures(
        self, network: nn.Module, batches: Iterable[Sequence[Example]], device: str
    ) -> tuple[Figures, list[dict]]:
        n = len(self.categories)
        confusion = np.zeros((n, n), np.int64)  # true class, predicted class
        for batch in batches:
            logits = network(stack_images(batch, self.normalize, device))["out"]
            predicted = logits.argmax(dim=1).cpu().numpy()
            labels = torch.stack([example.target["mask"] for example in batch]).numpy()
            counted = labels != IGNORED_LABEL
            pairs = labels[counted] * n + predicted[counted]
            confusion += np.bincount(pairs, minlength=n * n).reshape(n, n)

        iou, truth = measure_class_iou(confusion), confusion.sum(axis=1)
        rows = [
            {"class": name, "truth": int(truth[k]), "iou": mean_of_defined(iou[k : k + 1])}
            for k, name in enumerate(self.categories)
        ]
        figures: Figures = {
            "miou": mean_of_defined(iou),
            "pixel_accuracy": float(np.trace(confusion) / max(confusion.sum(), 1)),
        }
        return figures, rows


def compute_pixel_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """Return the mean cross-entropy of the labelled pixels.

    Args:
        logits: (B, C, H, W).
        truth: (B, H, W) class ids; pixels of `IGNORED_LABEL` do not count.

    Returns:
        A scalar. It is 0, not NaN, where no pixel is labelled.
    """
    summed = cross_entropy(logits, truth, ignore_index=IGNORED_LABEL, reduction="sum")
    return summed / (truth != IGNORED_LABEL).sum().clamp(min=1)
