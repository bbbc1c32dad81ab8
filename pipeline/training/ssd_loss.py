"""An SSD loss that also learns from images without objects.

torchvision's SSD learns from three hard background anchors for each matched anchor of the same
image. An image without objects has no matched anchor, so the SSD learns nothing from it. But users
add such images so that the model no longer finds objects in them. Here the hardest background
anchors are chosen from the whole batch. Their total number is the same.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torchvision.models.detection.ssd import SSD

Targets = list[dict[str, Tensor]]


def mine_backgrounds_over_batch(network: nn.Module) -> None:
    """Replace the classification loss of an SSD, in place; other networks are not changed."""
    if isinstance(network, SSD):
        network.compute_loss = _MinedOverBatch(network.compute_loss, network.neg_to_pos_ratio)


class _MinedOverBatch:
    """Computes the losses of an SSD with background anchors of the whole batch."""

    def __init__(self, compute_loss: Callable[..., dict[str, Tensor]], backgrounds: float) -> None:
        """Wrap torchvision's loss. `backgrounds`: background anchors for each object anchor."""
        self.compute_loss, self.backgrounds = compute_loss, backgrounds

    def __call__(
        self,
        targets: Targets,
        head_outputs: dict[str, Tensor],
        anchors: list[Tensor],
        matched_idxs: list[Tensor],
    ) -> dict[str, Tensor]:
        boxes = self.compute_loss(targets, head_outputs, anchors, matched_idxs)["bbox_regression"]
        return {
            "bbox_regression": boxes,
            "classification": compute_mined_loss(
                head_outputs["cls_logits"], match_labels(targets, matched_idxs), self.backgrounds
            ),
        }


def match_labels(targets: Targets, matched_idxs: list[Tensor]) -> Tensor:
    """Return the class of each anchor's object, (B, A) int64, 0 for none.

    Args:
        targets: The target of each image.
        matched_idxs: For each image (A,): the row of each anchor's object, negative if none.
    """
    rows = []
    for target, matched in zip(targets, matched_idxs, strict=True):
        has_object = matched >= 0
        labels = torch.zeros_like(matched)
        labels[has_object] = target["labels"][matched[has_object]]
        rows.append(labels)
    return torch.stack(rows)


def compute_mined_loss(logits: Tensor, labels: Tensor, backgrounds: float) -> Tensor:
    """Return the cross-entropy of the object anchors and of the batch's hardest background anchors.

    The sum is divided by the number of object anchors. At least `backgrounds` background
    anchors for each image are chosen, if there are that many. See Liu et al., "SSD", 2016,
    section 2.2.

    Args:
        logits: (B, A, C).
        labels: (B, A), 0 for background.
        backgrounds: Number of background anchors for each object anchor, 3 in the paper.
    """
    loss = cross_entropy(logits.flatten(0, 1).float(), labels.flatten(), reduction="none")
    has_object = labels.flatten() > 0
    n_objects = int(has_object.sum())
    n_hard = min(int(backgrounds * max(n_objects, len(labels))), len(loss) - n_objects)
    hardest = loss[~has_object].topk(n_hard).values
    return (loss[has_object].sum() + hardest.sum()) / max(1, n_objects)
