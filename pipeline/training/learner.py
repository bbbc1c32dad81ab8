"""What a task's networks learn from: losses by part, and how right they are on the validation part. One class for each kind
of output."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from pycocotools import mask as rle
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torchvision.models.detection import KeypointRCNN, KeypointRCNN_ResNet50_FPN_Weights

from pipeline.evaluation.matching import Matcher
from pipeline.evaluation.precision import accumulate, best_f1, figures
from pipeline.training.examples import Example

Figures = dict[str, float | None]
Losses = Mapping[str, Tensor]
_COCO_POINTS = tuple(KeypointRCNN_ResNet50_FPN_Weights.DEFAULT.meta["keypoint_names"])  # for which OKS has its constants
_SMOOTHING = 0.1  # of the labels of whole images (Szegedy et al., 2016)
_AUXILIARY = 0.4  # weight of the losses of heads that only training has, as in torchvision's references
IGNORED = 255


class Learner(Protocol):
    """`figure` is what the best epoch is chosen by; more is better."""

    figure: str

    def losses(self, network: nn.Module, batch: Sequence[Example], device: str) -> Losses:
        """Of the network in training mode, by part; their sum is what is minimised."""
        ...

    def figures(self, network: nn.Module, batches: Iterable[Sequence[Example]], device: str) -> tuple[Figures, list[dict]]:
        """Of the network in evaluation mode: all figures by name, and a row for each class."""
        ...


class Objects:
    """Boxes, masks, keypoints: torchvision's detectors, which compute their own losses."""

    def __init__(self, categories: Sequence[str], kinds: Sequence[str], keypoint_names: Sequence[str] = ()) -> None:
        """`kinds`: what is evaluated, the task's own first: boxes, masks, keypoints."""
        self.categories = categories
        self.kinds = [kind for kind in kinds if kind != "keypoints" or tuple(keypoint_names) == _COCO_POINTS]
        self.figure = f"{self.kinds[0]}_ap"

    def losses(self, network: nn.Module, batch: Sequence[Example], device: str) -> Losses:
        images = [unit(one.image, device) for one in batch]
        targets = [{name: value.to(device) for name, value in one.target.items()} for one in batch]
        found: Losses = network(images, targets)
        return found

    def figures(self, network: nn.Module, batches: Iterable[Sequence[Example]], device: str) -> tuple[Figures, list[dict]]:
        matchers = {kind: Matcher(kind, len(self.categories) - 1) for kind in self.kinds}
        number = 0
        for batch in batches:
            outputs = network([unit(one.image, device) for one in batch])
            numbered = list(zip(range(number, number + len(batch)), batch, outputs, strict=True))
            number += len(batch)
            sizes = ((i, one.image.shape[-2:]) for i, one, _ in numbered)
            images = [{"id": i, "height": height, "width": width} for i, (height, width) in sizes]
            truth = [row for i, one, _ in numbered for row in annotated(i, one.target)]
            for kind, matcher in matchers.items():
                matcher.add(images, truth, [row for i, _, output in numbered for row in detected(kind, i, output)])
        return self._summed(matchers)

    def _summed(self, matchers: Mapping[str, Matcher]) -> tuple[Figures, list[dict]]:
        found: Figures = {}
        rows: list[dict] = []
        for kind, matcher in matchers.items():
            matches = matcher.matches()
            summed = accumulate(matches)
            found |= {f"{kind}_{name}": value for name, value in figures(matches, summed).items()}
            for k, name in enumerate(self.categories[1:]):
                own, n_truth = matches.of_class(k), int(matches.n_truth[0, k])
                matched, ignored = matches.matched[0, 0, own], matches.ignored[0, 0, own]
                best = best_f1(matches.scores[own], matched & ~ignored, ~matched & ~ignored, n_truth)
                ap = {"ap": summed.precision[:, :, k, 0], "ap50": summed.precision[0, :, k, 0]}
                rows.append(
                    {"kind": kind, "class": name, "truth": n_truth}
                    | {key: _mean(values) for key, values in ap.items()}
                    | {"best_f1": best.f1 if best else None, "threshold": best.threshold if best else None}
                )
        return found, rows


class Classes:
    """One class for the whole image."""

    figure = "top1"

    def __init__(self, categories: Sequence[str], normalize: nn.Module) -> None:
        """`normalize`: (B, 3, h, w) uint8 -> what the network takes."""
        self.categories, self.normalize = categories, normalize

    def losses(self, network: nn.Module, batch: Sequence[Example], device: str) -> Losses:
        labels = torch.stack([one.target["label"] for one in batch]).to(device)
        main, *auxiliary = logits_of(network(stacked(batch, self.normalize, device)))
        found = {"classification": cross_entropy(main, labels, label_smoothing=_SMOOTHING)}
        for number, one in enumerate(auxiliary):
            found[f"auxiliary_{number}"] = _AUXILIARY * cross_entropy(one, labels, label_smoothing=_SMOOTHING)
        return found

    def figures(self, network: nn.Module, batches: Iterable[Sequence[Example]], device: str) -> tuple[Figures, list[dict]]:
        ranks: list[int] = []
        labels: list[int] = []
        for batch in batches:
            logits = logits_of(network(stacked(batch, self.normalize, device)))[0].float().cpu()
            right = torch.stack([one.target["label"] for one in batch])
            # how many others are not below the right one: of logits that are all alike, or no numbers, all of them
            ranks += (~(logits < logits.gather(1, right[:, None]))).sum(dim=1).sub(1).tolist()
            labels += right.tolist()
        hit, truth = np.array(ranks, int), np.array(labels, int)
        rows = [
            {"class": name, "truth": int((truth == k).sum()), "recall": _mean((hit == 0)[truth == k].astype(float))}
            for k, name in enumerate(self.categories)
        ]
        recalls = np.array([row["recall"] for row in rows if row["truth"]], float)
        top = {f"top{k}": _mean((hit < k).astype(float)) for k in (1, 5) if k < len(self.categories)}
        return {**top, "mean_class_accuracy": _mean(recalls)}, rows


class Regions:
    """Every pixel's class."""

    figure = "miou"

    def __init__(self, categories: Sequence[str], normalize: nn.Module) -> None:
        self.categories, self.normalize = categories, normalize

    def losses(self, network: nn.Module, batch: Sequence[Example], device: str) -> Losses:
        truth = torch.stack([one.target["mask"] for one in batch]).to(device)
        outputs = network(stacked(batch, self.normalize, device))
        found = {"pixels": pixels_loss(outputs["out"], truth)}
        if "aux" in outputs:
            found["auxiliary"] = _AUXILIARY * pixels_loss(outputs["aux"], truth)
        return found

    def figures(self, network: nn.Module, batches: Iterable[Sequence[Example]], device: str) -> tuple[Figures, list[dict]]:
        n = len(self.categories)
        counts = np.zeros((n, n), np.int64)
        for batch in batches:
            found = network(stacked(batch, self.normalize, device))["out"].argmax(dim=1).cpu().numpy()
            labels = torch.stack([one.target["mask"] for one in batch]).numpy()
            counted = labels != IGNORED
            counts += np.bincount(labels[counted] * n + found[counted], minlength=n * n).reshape(n, n)
        right, truth, answers = counts.diagonal(), counts.sum(axis=1), counts.sum(axis=0)
        with np.errstate(invalid="ignore"):
            iou = right / (truth + answers - right)
        rows = [
            {"class": name, "truth": int(truth[k]), "iou": _mean(iou[k : k + 1])} for k, name in enumerate(self.categories)
        ]
        return {"miou": _mean(iou), "pixel_accuracy": float(right.sum() / max(counts.sum(), 1))}, rows


def in_channels_last(network: nn.Module) -> nn.Module:
    """In the memory format that convolutions are fastest in. torchvision's loss of keypoints takes their maps apart by
    `view`, so these alone are made contiguous again."""
    if isinstance(network, KeypointRCNN):
        network.roi_heads.keypoint_predictor.register_forward_hook(lambda module, inputs, maps: maps.contiguous())
    return network.to(memory_format=torch.channels_last)


def pixels_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """Mean cross-entropy of the pixels that count; 0, not nan, where none does. (B, C, H, W), (B, H, W) -> ()."""
    summed = cross_entropy(logits, truth, ignore_index=IGNORED, reduction="sum")
    return summed / (truth != IGNORED).sum().clamp(min=1)


def unit(image: Tensor, device: str) -> Tensor:
    """(3, H, W) uint8 -> float32 in 0..1 on the device."""
    return image.to(device, non_blocking=True).float() / 255


def stacked(batch: Sequence[Example], normalize: nn.Module, device: str) -> Tensor:
    """(B, 3, h, w) float32 as the network takes it."""
    images: Tensor = normalize(torch.stack([one.image for one in batch]).to(device, non_blocking=True))
    return images.contiguous(memory_format=torch.channels_last)


def logits_of(outputs: Any) -> list[Tensor]:
    """A classifier's, and those of the heads that only training has: GoogLeNet's and Inception's."""
    return [one for one in outputs if one is not None] if isinstance(outputs, tuple) else [outputs]


def annotated(image_id: int, target: Mapping[str, Tensor]) -> list[dict[str, Any]]:
    """A target in COCO's format; `category_id` is the class's position without the background."""
    masks = list(_encoded(target["masks"].numpy())) if "masks" in target else []
    found = []
    for number, (box, label) in enumerate(zip(target["boxes"].tolist(), target["labels"].tolist(), strict=True)):
        x_min, y_min, x_max, y_max = box
        one = {"image_id": image_id, "category_id": label - 1, "iscrowd": 0}
        one |= {"bbox": [x_min, y_min, x_max - x_min, y_max - y_min], "area": (x_max - x_min) * (y_max - y_min)}
        if masks:
            one |= {"segmentation": masks[number], "area": float(rle.area(masks[number]))}
        if "keypoints" in target:
            points = target["keypoints"][number]
            one |= {"keypoints": points.flatten().tolist(), "num_keypoints": int((points[:, 2] > 0).sum())}
        found.append(one)
    return found


def detected(kind: str, image_id: int, output: Mapping[str, Tensor]) -> list[dict[str, Any]]:
    """A detector's output for one image in COCO's format of results."""
    boxes = output["boxes"].float().cpu()
    if kind == "boxes":
        xywh = torch.cat([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], dim=1)
        own: Iterable[dict[str, Any]] = ({"bbox": box} for box in xywh.tolist())
    elif kind == "masks":
        own = ({"segmentation": one} for one in _encoded((output["masks"][:, 0] > 0.5).cpu().numpy()))
    else:
        points = output["keypoints"].float().cpu()
        own = ({"keypoints": [v for x, y, _ in one for v in (x, y, 1)]} for one in points.tolist())
    common = zip((output["labels"] - 1).tolist(), output["scores"].float().tolist(), own, strict=True)
    return [{"image_id": image_id, "category_id": label, "score": score} | one for label, score, one in common]


def _encoded(masks: np.ndarray) -> Iterator[dict[str, Any]]:
    """(N, H, W) -> COCO's compressed run lengths."""
    for mask in masks:
        yield rle.encode(np.asfortranarray(mask.astype(np.uint8)))


def _mean(values: np.ndarray) -> float | None:
    defined = values[~np.isnan(values)] if len(values) else values
    return float(defined.mean()) if len(defined) else None


def learner_of(
    task: str, categories: Sequence[str], keypoint_names: Sequence[str], normalize: Callable[[Tensor], Tensor] | nn.Module
) -> Learner:
    """What the task's networks learn from."""
    if task == "classify":
        return Classes(categories, normalize)  # type: ignore[arg-type]
    if task == "segment":
        return Regions(categories, normalize)  # type: ignore[arg-type]
    kinds = {"detect": ["boxes"], "instances": ["masks", "boxes"], "keypoints": ["keypoints", "boxes"]}[task]
    return Objects(categories, kinds, keypoint_names)
