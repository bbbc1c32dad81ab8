"""Learning one class for the whole image, or each pixel's."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from pipeline.ops.masks import IGNORED_LABEL
from pipeline.results.evaluation.result import mean_of_defined
from pipeline.results.evaluation.segmentation import measure_class_iou
from pipeline.training.learners.base import Figures, Losses, stack_images
from pipeline.training.protocols import Example

_SMOOTHING = 0.1  # of the labels of whole images (Szegedy et al., 2016)
_AUXILIARY = (
    0.4  # weight of the losses of heads that only training has, as in torchvision's references
)


class ClassificationLearner:
    """One class for the whole image."""

    figure = "top1"

    def __init__(self, categories: Sequence[str], normalize: nn.Module) -> None:
        """`normalize`: (B, 3, h, w) uint8 -> what the network takes."""
        self.categories, self.normalize = categories, normalize

    def compute_losses(self, network: nn.Module, batch: Sequence[Example], device: str) -> Losses:
        labels = torch.stack([one.target["label"] for one in batch]).to(device)
        main, *auxiliary = list_logits(network(stack_images(batch, self.normalize, device)))
        found = {"classification": cross_entropy(main, labels, label_smoothing=_SMOOTHING)}
        for number, one in enumerate(auxiliary):
            found[f"auxiliary_{number}"] = _AUXILIARY * cross_entropy(
                one, labels, label_smoothing=_SMOOTHING
            )
        return found

    def compute_figures(
        self, network: nn.Module, batches: Iterable[Sequence[Example]], device: str
    ) -> tuple[Figures, list[dict]]:
        ranks: list[int] = []
        labels: list[int] = []
        for batch in batches:
            logits = (
                list_logits(network(stack_images(batch, self.normalize, device)))[0].float().cpu()
            )
            right = torch.stack([one.target["label"] for one in batch])
            # how many others are not below the right one: of logits that are all alike, or no numbers, all of them
            ranks += (~(logits < logits.gather(1, right[:, None]))).sum(dim=1).sub(1).tolist()
            labels += right.tolist()
        hit, truth = np.array(ranks, int), np.array(labels, int)
        rows = [
            {
                "class": name,
                "truth": int((truth == k).sum()),
                "recall": mean_of_defined((hit == 0)[truth == k].astype(float)),
            }
            for k, name in enumerate(self.categories)
        ]
        recalls = np.array([row["recall"] for row in rows if row["truth"]], float)
        top = {
            f"top{k}": mean_of_defined((hit < k).astype(float))
            for k in (1, 5)
            if k < len(self.categories)
        }
        return {**top, "mean_class_accuracy": mean_of_defined(recalls)}, rows


class SegmentationLearner:
    """Every pixel's class."""

    figure = "miou"

    def __init__(self, categories: Sequence[str], normalize: nn.Module) -> None:
        self.categories, self.normalize = categories, normalize

    def compute_losses(self, network: nn.Module, batch: Sequence[Example], device: str) -> Losses:
        truth = torch.stack([one.target["mask"] for one in batch]).to(device)
        outputs = network(stack_images(batch, self.normalize, device))
        found = {"pixels": compute_pixel_loss(outputs["out"], truth)}
        if "aux" in outputs:
            found["auxiliary"] = _AUXILIARY * compute_pixel_loss(outputs["aux"], truth)
        return found

    def compute_figures(
        self, network: nn.Module, batches: Iterable[Sequence[Example]], device: str
    ) -> tuple[Figures, list[dict]]:
        n = len(self.categories)
        counts = np.zeros((n, n), np.int64)
        for batch in batches:
            found = (
                network(stack_images(batch, self.normalize, device))["out"]
                .argmax(dim=1)
                .cpu()
                .numpy()
            )
            labels = torch.stack([one.target["mask"] for one in batch]).numpy()
            counted = labels != IGNORED_LABEL
            counts += np.bincount(labels[counted] * n + found[counted], minlength=n * n).reshape(
                n, n
            )
        iou, truth = measure_class_iou(counts), counts.sum(axis=1)
        rows = [
            {"class": name, "truth": int(truth[k]), "iou": mean_of_defined(iou[k : k + 1])}
            for k, name in enumerate(self.categories)
        ]
        return {
            "miou": mean_of_defined(iou),
            "pixel_accuracy": float(np.trace(counts) / max(counts.sum(), 1)),
        }, rows


def compute_pixel_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """Mean cross-entropy of the pixels that count; 0, not nan, where none does. (B, C, H, W), (B, H, W) -> ()."""
    summed = cross_entropy(logits, truth, ignore_index=IGNORED_LABEL, reduction="sum")
    return summed / (truth != IGNORED_LABEL).sum().clamp(min=1)


def list_logits(outputs: Any) -> list[Tensor]:
    """A classifier's, and those of the heads that only training has: GoogLeNet's and Inception's."""
    return [one for one in outputs if one is not None] if isinstance(outputs, tuple) else [outputs]
