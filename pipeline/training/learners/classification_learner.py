"""Learn one class for each image (task=classify)."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from pipeline.results.evaluation.result import mean_of_defined
from pipeline.training.data_protocols import Example
from pipeline.training.learners.learner import AUXILIARY_WEIGHT, Figures, Losses, stack_images

_LABEL_SMOOTHING = 0.1  # Szegedy et al., 2016


class ClassificationLearner:
    """Computes the cross-entropy of an image's class. The figures are accuracy and recall."""

    figure = "top1"

    def __init__(self, categories: Sequence[str], normalize: nn.Module) -> None:
        """Set the class names and the normalization.

        Args:
            categories: Class names; the index is the class id.
            normalize: Turns (B, 3, h, w) uint8 images into network input.
        """
        self.categories, self.normalize = categories, normalize

    def compute_losses(self, network: nn.Module, batch: Sequence[Example], device: str) -> Losses:
        labels = torch.stack([example.target["label"] for example in batch]).to(device)
        main, *auxiliary = list_logits(network(stack_images(batch, self.normalize, device)))

        losses = {"classification": cross_entropy(main, labels, label_smoothing=_LABEL_SMOOTHING)}
        for number, logits in enumerate(auxiliary):
            loss = cross_entropy(logits, labels, label_smoothing=_LABEL_SMOOTHING)
            losses[f"auxiliary_{number}"] = AUXILIARY_WEIGHT * loss
        return losses

    def compute_figures(
        self, network: nn.Module, batches: Iterable[Sequence[Example]], device: str
    ) -> tuple[Figures, list[dict]]:
        rank_list: list[int] = []  # rank of the right class, 0 for the best
        label_list: list[int] = []
        for batch in batches:
            outputs = network(stack_images(batch, self.normalize, device))
            logits = list_logits(outputs)[0].float().cpu()  # (B, C)
            right = torch.stack([example.target["label"] for example in batch])
            # A class ranks before the right one unless its logit is lower. So if all logits are
            # equal or NaN, the right class ranks last and the output counts as wrong.
            not_below = ~(logits < logits.gather(1, right[:, None]))
            rank_list += not_below.sum(dim=1).sub(1).tolist()
            label_list += right.tolist()

        ranks, labels = np.array(rank_list, int), np.array(label_list, int)
        rows = [
            {
                "class": name,
                "truth": int((labels == k).sum()),
                "recall": mean_of_defined((ranks == 0)[labels == k].astype(float)),
            }
            for k, name in enumerate(self.categories)
        ]
        recalls = np.array([row["recall"] for row in rows if row["truth"]], float)
        top = {
            f"top{k}": mean_of_defined((ranks < k).astype(float))
            for k in (1, 5)
            if k < len(self.categories)
        }
        return {**top, "mean_class_accuracy": mean_of_defined(recalls)}, rows


def list_logits(outputs: Any) -> list[Tensor]:
    """Return a classifier's logits and those of its auxiliary heads (GoogLeNet, Inception)."""
    if isinstance(outputs, tuple):
        return [logits for logits in outputs if logits is not None]
    return [outputs]
