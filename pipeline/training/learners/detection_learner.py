"""Learn boxes, masks and keypoints with torchvision's detectors; evaluate them by COCO's rules."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from pycocotools import mask as rle
from torch import Tensor, nn
from torchvision.models.detection import KeypointRCNN_ResNet50_FPN_Weights

from pipeline.results.evaluation.average_precision import (
    compute_precision_recall,
    measure_class,
    summarize_metrics,
)
from pipeline.results.evaluation.coco_matching import CocoMatcher
from pipeline.training.data_protocols import Example
from pipeline.training.learners.learner import Figures, Losses, to_unit_range

# COCO evaluates keypoints by OKS, a similarity whose constants exist for these keypoints only.
_COCO_KEYPOINTS = tuple(KeypointRCNN_ResNet50_FPN_Weights.DEFAULT.meta["keypoint_names"])


class DetectionLearner:
    """Returns the losses that torchvision's detectors compute. The figures are COCO's AP."""

    def __init__(
        self, categories: Sequence[str], kinds: Sequence[str], keypoint_names: Sequence[str] = ()
    ) -> None:
        """Choose what is evaluated.

        Args:
            categories: Class names; 0 is the background.
            kinds: What to evaluate, out of boxes, masks and keypoints. The AP of the first kind
                chooses the best epoch.
            keypoint_names: Names of the data's keypoints. Only COCO's can be evaluated.
        """
        self.categories = categories
        has_coco_keypoints = tuple(keypoint_names) == _COCO_KEYPOINTS
        self.kinds = [kind for kind in kinds if kind != "keypoints" or has_coco_keypoints]
        self.figure = f"{self.kinds[0]}_ap"

    def compute_losses(self, network: nn.Module, batch: Sequence[Example], device: str) -> Losses:
        images = [to_unit_range(example.image, device) for example in batch]
        targets = [
            {name: value.to(device) for name, value in example.target.items()} for example in batch
        ]
        losses: Losses = network(images, targets)
        return losses

    def compute_figures(
        self, network: nn.Module, batches: Iterable[Sequence[Example]], device: str
    ) -> tuple[Figures, list[dict]]:
        matchers = {kind: CocoMatcher(kind, len(self.categories) - 1) for kind in self.kinds}
        n_images = 0
        for batch in batches:
            outputs = network([to_unit_range(example.image, device) for example in batch])
            ids = range(n_images, n_images + len(batch))
            n_images += len(batch)

            images = []
            for image_id, example in zip(ids, batch, strict=True):
                height, width = example.image.shape[-2:]
                images.append({"id": image_id, "height": height, "width": width})
            truth = [
                row
                for image_id, example in zip(ids, batch, strict=True)
                for row in target_to_coco(image_id, example.target)
            ]
            for kind, matcher in matchers.items():
                predictions = [
                    row
                    for image_id, output in zip(ids, outputs, strict=True)
                    for row in output_to_coco(kind, image_id, output)
                ]
                matcher.add(images, truth, predictions)

        return self._summarize(matchers)

    def _summarize(self, matchers: Mapping[str, CocoMatcher]) -> tuple[Figures, list[dict]]:
        figures: Figures = {}
        rows: list[dict] = []
        for kind, matcher in matchers.items():
            matches = matcher.matches()
            curves = compute_precision_recall(matches)
            metrics = summarize_metrics(matches, curves)
            figures |= {f"{kind}_{name}": value for name, value in metrics.items()}

            for k, name in enumerate(self.categories[1:]):
                measured = measure_class(matches, curves, k)
                row = {"kind": kind, "class": name, "truth": int(matches.n_truth[0, k])}
                row |= {name: measured[name] for name in ("ap", "ap50", "threshold")}
                row["best_f1"] = measured["f1"]
                rows.append(row)
        return figures, rows


def target_to_coco(image_id: int, target: Mapping[str, Tensor]) -> list[dict[str, Any]]:
    """Convert an example's target to COCO annotations.

    `category_id` is the class id minus 1, because COCO has no background class.
    """
    masks = list(_encode_masks(target["masks"].numpy())) if "masks" in target else []
    annotations = []
    for number, (box, label) in enumerate(
        zip(target["boxes"].tolist(), target["labels"].tolist(), strict=True)
    ):
        x_min, y_min, x_max, y_max = box
        annotation = {
            "image_id": image_id,
            "category_id": label - 1,
            "iscrowd": 0,
            "bbox": [x_min, y_min, x_max - x_min, y_max - y_min],
            "area": (x_max - x_min) * (y_max - y_min),
        }
        if masks:
            annotation |= {"segmentation": masks[number], "area": float(rle.area(masks[number]))}
        if "keypoints" in target:
            points = target["keypoints"][number]  # (K, 3)
            annotation |= {
                "keypoints": points.flatten().tolist(),
                "num_keypoints": int((points[:, 2] > 0).sum()),
            }
        annotations.append(annotation)
    return annotations


def output_to_coco(kind: str, image_id: int, output: Mapping[str, Tensor]) -> list[dict[str, Any]]:
    """Convert a detector's output for one image to COCO results of one kind."""
    boxes = output["boxes"].float().cpu()  # (N, 4) xyxy
    if kind == "boxes":
        xywh = torch.cat([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], dim=1)
        shapes: Iterable[dict[str, Any]] = ({"bbox": box} for box in xywh.tolist())
    elif kind == "masks":
        masks = (output["masks"][:, 0] > 0.5).cpu().numpy()  # (N, 1, H, W) -> (N, H, W)
        shapes = ({"segmentation": mask} for mask in _encode_masks(masks))
    else:
        objects = output["keypoints"].float().cpu().tolist()  # (N, K, 3)
        shapes = (
            {"keypoints": [value for x, y, _ in points for value in (x, y, 1)]}
            for points in objects
        )

    labels, scores = (output["labels"] - 1).tolist(), output["scores"].float().tolist()
    return [
        {"image_id": image_id, "category_id": label, "score": score} | shape
        for label, score, shape in zip(labels, scores, shapes, strict=True)
    ]


def _encode_masks(masks: np.ndarray) -> Iterator[dict[str, Any]]:
    """Encode (N, H, W) masks as COCO's compressed run lengths."""
    for mask in masks:
        yield rle.encode(np.asfortranarray(mask.astype(np.uint8)))
