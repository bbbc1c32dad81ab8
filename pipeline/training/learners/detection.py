"""Learning boxes, masks and keypoints, and how right they are by COCO's measure."""

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
from pipeline.training.learners.base import Figures, Losses, to_unit_range
from pipeline.training.protocols import Example

_COCO_POINTS = tuple(
    KeypointRCNN_ResNet50_FPN_Weights.DEFAULT.meta["keypoint_names"]
)  # for which OKS has its constants


class DetectionLearner:
    """Boxes, masks, keypoints: torchvision's detectors, which compute their own losses."""

    def __init__(
        self, categories: Sequence[str], kinds: Sequence[str], keypoint_names: Sequence[str] = ()
    ) -> None:
        """`kinds`: what is evaluated, the task's own first: boxes, masks, keypoints."""
        self.categories = categories
        self.kinds = [
            kind for kind in kinds if kind != "keypoints" or tuple(keypoint_names) == _COCO_POINTS
        ]
        self.figure = f"{self.kinds[0]}_ap"

    def compute_losses(self, network: nn.Module, batch: Sequence[Example], device: str) -> Losses:
        images = [to_unit_range(one.image, device) for one in batch]
        targets = [{name: value.to(device) for name, value in one.target.items()} for one in batch]
        found: Losses = network(images, targets)
        return found

    def compute_figures(
        self, network: nn.Module, batches: Iterable[Sequence[Example]], device: str
    ) -> tuple[Figures, list[dict]]:
        matchers = {kind: CocoMatcher(kind, len(self.categories) - 1) for kind in self.kinds}
        number = 0
        for batch in batches:
            outputs = network([to_unit_range(one.image, device) for one in batch])
            numbered = list(zip(range(number, number + len(batch)), batch, outputs, strict=True))
            number += len(batch)
            sizes = ((i, one.image.shape[-2:]) for i, one, _ in numbered)
            images = [{"id": i, "height": height, "width": width} for i, (height, width) in sizes]
            truth = [row for i, one, _ in numbered for row in target_to_coco(i, one.target)]
            for kind, matcher in matchers.items():
                matcher.add(
                    images,
                    truth,
                    [row for i, _, output in numbered for row in output_to_coco(kind, i, output)],
                )
        return self._summed(matchers)

    def _summed(self, matchers: Mapping[str, CocoMatcher]) -> tuple[Figures, list[dict]]:
        found: Figures = {}
        rows: list[dict] = []
        for kind, matcher in matchers.items():
            matches = matcher.matches()
            summed = compute_precision_recall(matches)
            found |= {
                f"{kind}_{name}": value
                for name, value in summarize_metrics(matches, summed).items()
            }
            for k, name in enumerate(self.categories[1:]):
                one = measure_class(matches, summed, k)
                row = {"kind": kind, "class": name, "truth": int(matches.n_truth[0, k])}
                row |= {name: one[name] for name in ("ap", "ap50", "threshold")} | {
                    "best_f1": one["f1"]
                }
                rows.append(row)
        return found, rows


def target_to_coco(image_id: int, target: Mapping[str, Tensor]) -> list[dict[str, Any]]:
    """A target in COCO's format; `category_id` is the class's position without the background."""
    masks = list(_encode_masks(target["masks"].numpy())) if "masks" in target else []
    found = []
    for number, (box, label) in enumerate(
        zip(target["boxes"].tolist(), target["labels"].tolist(), strict=True)
    ):
        x_min, y_min, x_max, y_max = box
        one = {"image_id": image_id, "category_id": label - 1, "iscrowd": 0}
        one |= {
            "bbox": [x_min, y_min, x_max - x_min, y_max - y_min],
            "area": (x_max - x_min) * (y_max - y_min),
        }
        if masks:
            one |= {"segmentation": masks[number], "area": float(rle.area(masks[number]))}
        if "keypoints" in target:
            points = target["keypoints"][number]
            one |= {
                "keypoints": points.flatten().tolist(),
                "num_keypoints": int((points[:, 2] > 0).sum()),
            }
        found.append(one)
    return found


def output_to_coco(kind: str, image_id: int, output: Mapping[str, Tensor]) -> list[dict[str, Any]]:
    """A detector's output for one image in COCO's format of results."""
    boxes = output["boxes"].float().cpu()
    if kind == "boxes":
        xywh = torch.cat([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], dim=1)
        own: Iterable[dict[str, Any]] = ({"bbox": box} for box in xywh.tolist())
    elif kind == "masks":
        own = (
            {"segmentation": one}
            for one in _encode_masks((output["masks"][:, 0] > 0.5).cpu().numpy())
        )
    else:
        points = output["keypoints"].float().cpu()
        own = ({"keypoints": [v for x, y, _ in one for v in (x, y, 1)]} for one in points.tolist())
    common = zip(
        (output["labels"] - 1).tolist(), output["scores"].float().tolist(), own, strict=True
    )
    return [
        {"image_id": image_id, "category_id": label, "score": score} | one
        for label, score, one in common
    ]


def _encode_masks(masks: np.ndarray) -> Iterator[dict[str, Any]]:
    """(N, H, W) -> COCO's compressed run lengths."""
    for mask in masks:
        yield rle.encode(np.asfortranarray(mask.astype(np.uint8)))
