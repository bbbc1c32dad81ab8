"""torchvision's SSD with a postprocessing that handles all images and classes at once.

torchvision loops over images and classes; that took 1.7 of 8 ms per image with SSDlite320.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.ssd import SSD
from torchvision.ops import batched_nms, clip_boxes_to_image

from pipeline.core.cpu import map_in_threads
from pipeline.core.types import Output, Outputs
from pipeline.models.preprocessing import Normalize


class BatchedSSD(nn.Module):
    """Run an SSD on images of the size that it resizes to: {boxes, labels, scores} for each.

    An image is (3, h, w), normalised or uint8. `transform.postprocess` maps the boxes back to the
    original images.
    """

    compilable = ("body",)

    def __init__(self, network: SSD) -> None:
        super().__init__()
        self.transform: Any = network.transform
        self.body = _BoxesAndScores(network)
        self.min_score = network.score_thresh
        self.max_candidates = network.topk_candidates
        self.nms_iou = network.nms_thresh
        self.max_detections = network.detections_per_img

    def forward(self, images: Sequence[Tensor]) -> Outputs:
        batch = torch.stack(list(images))  # (B, 3, h, w)
        boxes, scores = self.body(batch)  # (B, A, 4), (B, A, C)
        size_hw = (batch.shape[-2], batch.shape[-1])
        outputs = self._select(boxes, scores)
        return self.transform.postprocess(outputs, [size_hw] * len(batch), [])

    def _select(self, boxes: Tensor, scores: Tensor) -> Outputs:
        """Select the detections of each image by torchvision's rules.

        First, boxes with scores above the threshold are kept, at most `max_candidates` per class.
        Then non-maximum suppression runs within each class. Last, the best `max_detections` stay.
        """
        by_class = scores[..., 1:].transpose(1, 2)  # (B, C - 1, A), without the background
        image, label, anchor = (by_class > self.min_score).nonzero(as_tuple=True)
        found = {
            "boxes": boxes[image, anchor],
            "scores": by_class[image, label, anchor],
            "labels": label + 1,
        }

        group = image * by_class.shape[1] + label
        if len(group) and group.bincount().max() > self.max_candidates:
            is_candidate = _rank_in_group(group, found["scores"]) < self.max_candidates
            image = image[is_candidate]
            found = {name: values[is_candidate] for name, values in found.items()}

        counts = image.bincount(minlength=len(boxes)).tolist()
        columns = [values.split(counts) for values in found.values()]
        outputs = [dict(zip(found, values, strict=True)) for values in zip(*columns, strict=True)]
        if boxes.device.type == "cpu":
            return map_in_threads(self._suppress, outputs)
        return [self._suppress(output) for output in outputs]

    def _suppress(self, output: Output) -> Output:
        keep = batched_nms(output["boxes"], output["scores"], output["labels"], self.nms_iou)
        return {name: values[keep[: self.max_detections]] for name, values in output.items()}


class _BoxesAndScores(nn.Module):
    """(B, 3, h, w), normalised or uint8 -> boxes (B, A, 4) xyxy in its pixels, scores (B, A, C)."""

    anchors: Tensor  # (A, 4) xyxy

    def __init__(self, network: SSD) -> None:
        super().__init__()
        transform: Any = network.transform
        self.normalize = Normalize(transform.image_mean, transform.image_std)
        self.backbone, self.head, self.box_coder = network.backbone, network.head, network.box_coder
        width, height = transform.fixed_size
        self.size_hw = (height, width)
        anchors = _compute_anchors(network, self.size_hw)
        self.register_buffer("anchors", anchors, persistent=False)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        outputs = self.head(_to_list(self.backbone(self.normalize(images))))
        offsets = outputs["bbox_regression"]  # (B, A, 4)
        anchors = self.anchors.expand(len(images), -1, -1)
        boxes = self.box_coder.decode_single(offsets.flatten(0, 1), anchors.flatten(0, 1))
        boxes = clip_boxes_to_image(boxes, self.size_hw)
        return boxes.view_as(offsets), outputs["cls_logits"].softmax(dim=-1)


def _compute_anchors(network: SSD, size_hw: tuple[int, int]) -> Tensor:
    """Compute the anchors, (A, 4).

    They depend on the shapes of the feature maps only, which are found on the meta device.
    """
    backbone = network.backbone
    meta_tensors = {
        name: value.to("meta")
        for name, value in [*backbone.named_parameters(), *backbone.named_buffers()]
    }
    image = torch.empty(1, 3, *size_hw, device="meta")
    features = _to_list(functional_call(backbone, meta_tensors, image))

    # Expanded tensors have the shapes that the generator reads, and one element of memory.
    maps = [torch.empty(1).expand(feature_map.shape) for feature_map in features]
    images = ImageList(torch.empty(1).expand(1, 3, *size_hw), [size_hw])
    (anchors,) = network.anchor_generator(images, maps)
    return anchors


def _to_list(features: Any) -> list[Tensor]:
    return [features] if isinstance(features, Tensor) else list(features.values())


def _rank_in_group(groups: Tensor, scores: Tensor) -> Tensor:
    """Return the rank of each score within its group, (N,).

    The best score has rank 0. Equal scores keep their order.
    """
    order = scores.argsort(descending=True, stable=True)
    order = order[groups[order].argsort(stable=True)]
    counts = groups.bincount()
    starts = counts.cumsum(0) - counts
    ranks = torch.empty_like(order)
    ranks[order] = torch.arange(len(order), device=order.device) - starts[groups[order]]
    return ranks
