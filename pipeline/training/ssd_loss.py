"""The loss of SSDs with backgrounds of images without objects.

torchvision's SSD learns, in each image, from three times as many hard backgrounds as it has matched anchors there: from
none in an image without objects. Such images, added so that the model stops finding things in them, would teach it nothing.
Here the hardest backgrounds are drawn over the whole batch, as many as before in all.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torchvision.models.detection.ssd import SSD

Targets = list[dict[str, Tensor]]


def mine_backgrounds_over_batch(network: nn.Module) -> None:
    """Change how an SSD's loss for classes is computed; other networks stay as they are."""
    if isinstance(network, SSD):
        network.compute_loss = _MinedOverBatch(network.compute_loss, network.neg_to_pos_ratio)


class _MinedOverBatch:
    def __init__(self, compute_loss: Callable[..., dict[str, Tensor]], backgrounds: float) -> None:
        """`backgrounds`: for each anchor that has an object."""
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
    """(B, A) int64: the class of each anchor's object, 0 for none. `matched_idxs` (A,) of each image, -1 for none."""
    rows = []
    for target, matched in zip(targets, matched_idxs, strict=True):
        has = matched >= 0
        labels = torch.zeros_like(matched)
        labels[has] = target["labels"][matched[has]]
        rows.append(labels)
    return torch.stack(rows)


def compute_mined_loss(logits: Tensor, labels: Tensor, backgrounds: float) -> Tensor:
    """Cross-entropy of all anchors with an object and of the batch's hardest ones without (Liu et al., "SSD", 2016, 2.2:
    three for each), at least as many as there are images, over the number of the former. Logits (B, A, C), labels (B, A)."""
    loss = cross_entropy(logits.flatten(0, 1).float(), labels.flatten(), reduction="none")
    has = labels.flatten() > 0
    n_objects = int(has.sum())
    n_hard = min(int(backgrounds * max(n_objects, len(labels))), len(loss) - n_objects)
    hardest = loss[~has].topk(n_hard).values
    return (loss[has].sum() + hardest.sum()) / max(1, n_objects)
