"""torchvision's SSD for whole batches. The layers are its own and the rules too; but what follows the layers is done for all
images and classes at once, where torchvision loops over both (measured: 1.7 of the 8 ms an image that SSDlite320 takes)."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.ssd import SSD
from torchvision.ops import batched_nms, clip_boxes_to_image

from pipeline.core.cpu import map_in_threads
from pipeline.core.types import Outputs
from pipeline.models.preprocessing import Normalize


class BatchedSSD(nn.Module):
    """(3, h, w) images, all of the one size that an SSD resizes to, normalised or uint8 -> {boxes, labels, scores} for each,
    as `transform.postprocess` maps them back to the originals."""

    compilable = ("body",)

    def __init__(self, network: SSD) -> None:
        super().__init__()
        self.transform: Any = network.transform
        self.body = _Body(network)
        self.min_score, self.candidates, self.iou = (
            network.score_thresh,
            network.topk_candidates,
            network.nms_thresh,
        )
        self.most = network.detections_per_img

    def forward(self, images: Sequence[Tensor]) -> Outputs:
        batch = torch.stack(list(images))
        boxes, scores = self.body(batch)
        size_hw = (batch.shape[-2], batch.shape[-1])
        return self.transform.postprocess(self._select(boxes, scores), [size_hw] * len(batch), [])

    def _select(self, boxes: Tensor, scores: Tensor) -> Outputs:
        """(B, A, 4), (B, A, C) -> what is above the least score, of each class the best `candidates`, less what a better
        one of its class overlaps, and of that the best `most`."""
        by_class = scores[..., 1:].transpose(1, 2)  # without the background
        image, label, anchor = (by_class > self.min_score).nonzero(as_tuple=True)
        found = {
            "boxes": boxes[image, anchor],
            "scores": by_class[image, label, anchor],
            "labels": label + 1,
        }
        group = image * by_class.shape[1] + label
        if len(group) and group.bincount().max() > self.candidates:
            best = _ranks(group, found["scores"]) < self.candidates
            image, found = image[best], {name: values[best] for name, values in found.items()}
        counts = image.bincount(minlength=len(boxes)).tolist()
        apart = [values.split(counts) for values in found.values()]
        each = [dict(zip(found, values, strict=True)) for values in zip(*apart, strict=True)]
        return (
            map_in_threads(self._suppress, each)
            if boxes.device.type == "cpu"
            else [self._suppress(one) for one in each]
        )

    def _suppress(self, one: dict[str, Tensor]) -> dict[str, Tensor]:
        keep = batched_nms(one["boxes"], one["scores"], one["labels"], self.iou)[: self.most]
        return {name: values[keep] for name, values in one.items()}


class _Body(nn.Module):
    """(B, 3, h, w), normalised or uint8 -> boxes (B, A, 4) xyxy in its pixels, scores (B, A, C)."""

    anchors: Tensor

    def __init__(self, network: SSD) -> None:
        super().__init__()
        transform: Any = network.transform
        self.normalize = Normalize(transform.image_mean, transform.image_std)
        self.backbone, self.head, self.box_coder = network.backbone, network.head, network.box_coder
        width, height = transform.fixed_size
        self.size_hw = (height, width)
        self.register_buffer("anchors", _anchors(network, self.size_hw), persistent=False)  # (A, 4)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        outputs = self.head(_as_list(self.backbone(self.normalize(images))))
        offsets = outputs["bbox_regression"]  # (B, A, 4)
        anchors = self.anchors.expand(len(images), -1, -1)
        boxes = self.box_coder.decode_single(offsets.flatten(0, 1), anchors.flatten(0, 1))
        boxes = clip_boxes_to_image(boxes, self.size_hw)
        return boxes.view_as(offsets), outputs["cls_logits"].softmax(dim=-1)


def _anchors(network: SSD, size_hw: tuple[int, int]) -> Tensor:
    """They depend on the shapes of the features only, which are computed without data."""
    backbone = network.backbone
    hollow = {
        name: value.to("meta")
        for name, value in [*backbone.named_parameters(), *backbone.named_buffers()]
    }
    features = _as_list(
        functional_call(backbone, hollow, torch.empty(1, 3, *size_hw, device="meta"))
    )
    grids = [torch.empty(1).expand(one.shape) for one in features]
    (anchors,) = network.anchor_generator(
        ImageList(torch.empty(1).expand(1, 3, *size_hw), [size_hw]), grids
    )
    return anchors


def _as_list(features: Any) -> list[Tensor]:
    return [features] if isinstance(features, Tensor) else list(features.values())


def _ranks(groups: Tensor, scores: Tensor) -> Tensor:
    """(N,): 0 for the best score of its group, 1 for the next ...; ties in the order given."""
    order = scores.argsort(descending=True, stable=True)
    order = order[groups[order].argsort(stable=True)]
    counts = groups.bincount()
    starts = counts.cumsum(0) - counts
    ranks = torch.empty_like(order)
    ranks[order] = torch.arange(len(order), device=order.device) - starts[groups[order]]
    return ranks
