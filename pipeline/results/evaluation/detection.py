"""Evaluate boxes, masks and keypoints against annotated objects, by COCO's method."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.config.task_classes import find_task
from pipeline.core.errors import ConfigError
from pipeline.core.schema import read_name_list
from pipeline.core.task_roles import Content
from pipeline.ops.boxes import read_boxes_xyxy
from pipeline.results.evaluation.average_precision import (
    PrecisionRecall,
    compute_precision_recall,
    measure_class,
    summarize_metrics,
)
from pipeline.results.evaluation.coco_matching import CocoMatcher, CocoMatches
from pipeline.results.evaluation.confusion import IOU, BoxConfusion
from pipeline.results.evaluation.object_truth import ObjectTruth, read_object_truth
from pipeline.results.evaluation.pairing import (
    ClassPairs,
    ImagePairs,
    describe_filters,
    pair_classes,
    pair_images,
)
from pipeline.results.evaluation.result import Evaluation
from pipeline.runs.finished_run import FinishedRun

_TOGETHER = 256  # number of images that the run lacks, to match at once
_KINDS = (Content.KEYPOINTS, Content.MASKS, Content.BOXES)  # a task's main kind comes first
_POINTS = 17  # number of COCO's keypoints; COCO defines the constants of OKS only for these


@dataclass(frozen=True)
class _Part:
    """Some of truth's images, with their annotations and predictions.

    `image_id` is the number of an image in truth, `category_id` the position of a class.
    """

    images: list[dict[str, Any]]
    truth: list[dict[str, Any]]
    found: pa.Table  # predictions, with the columns `image` (image_id) and `k` (category_id)


def evaluate_detection(run: FinishedRun, path: Path, score: float) -> Evaluation:
    """Evaluate detections against annotated objects in a format that training reads.

    Args:
        score: lowest score of the detections that the confusion matrix counts.

    Raises:
        ConfigError: truth cannot be read, or it has no image or no class in common with the run.
    """
    truth = read_object_truth(run, path, _find_annotation_task(run))
    names = pa.array(truth.names, pa.string())
    pairs = pair_images(run, names, truth.sizes_hw, any_suffix=truth.named_by_stem)
    classes = pair_classes(run, truth.categories)
    kinds, lacking = _kinds(run, truth)
    matchers = {kind: CocoMatcher(kind, len(classes.names)) for kind in kinds}
    confusion = BoxConfusion(classes.names, score)
    n_found = np.zeros(len(classes.names), np.int64)
    for part in _parts(run, truth, classes, pairs):
        n_found += np.bincount(part.found["k"].to_numpy(), minlength=len(n_found))
        for kind, matcher in matchers.items():
            matcher.add(part.images, part.truth, _detections(kind, part.found))
        _confuse(confusion, part)
    matches = {kind: matcher.matches() for kind, matcher in matchers.items()}
    results = {kind: compute_precision_recall(one) for kind, one in matches.items()}
    most = {kind: one.setting.max_detections[-1] for kind, one in matches.items()}
    return Evaluation(
        kind=kinds[0],
        figures={kind: summarize_metrics(matches[kind], results[kind]) for kind in kinds},
        classes=[
            row
            for kind in kinds
            for row in _rows(kind, classes, truth, n_found, matches[kind], results[kind])
        ],
        confusion=confusion.result(),
        images=pairs.images,
        settings={
            "max_detections": most,
            "f1_iou": 0.5,
            "confusion_iou": IOU,
            "confusion_score": score,
        },
        notes=(*truth.notes, *pairs.notes, *classes.notes, *lacking, *describe_filters(run)),
        curves=results[kinds[0]].precision[0, :, :, 0],  # at IoU 0.5, for objects of all sizes
    )


def _find_annotation_task(run: FinishedRun) -> str:
    """Return the task whose annotations have the shapes of the run's rows."""
    contents = find_task(run.task).contents
    if Content.KEYPOINTS in contents:
        return "keypoints"
    return "instances" if Content.MASKS in contents else "detect"


def _kinds(run: FinishedRun, truth: ObjectTruth) -> tuple[list[str], list[str]]:
    """Return the kinds of shapes that the run and truth share, and notes about the others.

    The first kind is the main kind of the task.

    Raises:
        ConfigError: they share no kind, or their keypoints differ.
    """
    contents = find_task(run.task).contents
    wanted = [str(kind) for kind in _KINDS if kind in contents]
    kinds = [kind for kind in wanted if kind in truth.holds]
    if not kinds:
        raise ConfigError(
            f"truth has no annotations with {' or '.join(wanted)}, which is what the run has."
        )
    points = read_name_list(run.schema, "keypoint_names")
    if "keypoints" in kinds and (len(points) != _POINTS or truth.keypoint_names != points):
        raise ConfigError(
            f"The run's keypoints are {', '.join(points)}; truth's are "
            f"{', '.join(truth.keypoint_names) or 'not named'}. "
            f"Expected COCO's {_POINTS} in COCO's order on both sides: OKS, which their AP is "
            "made of, is defined for those."
        )
    reason = "not evaluated, because not all of truth's annotations have them"
    return kinds, [f"{kind.capitalize()} are {reason}." for kind in wanted if kind not in kinds]


def _parts(
    run: FinishedRun, truth: ObjectTruth, classes: ClassPairs, pairs: ImagePairs
) -> Iterator[_Part]:
    """Yield every evaluated image once: shard by shard, then the images that the run lacks."""
    position = {i: k for k, i in enumerate(classes.ids)}

    def part(numbers: np.ndarray, predictions: pa.Table) -> _Part:
        found = _paired(predictions, pairs.number_of, classes.index_of)
        ids = numbers.tolist()
        annotated = [
            one | {"image_id": number, "category_id": position[one["category_id"]]}
            for number in ids
            for one in truth.make_annotations(number, pairs.sizes_hw[number].tolist())
            if one["category_id"] in position
        ]
        sizes = zip(ids, pairs.sizes_hw[numbers].tolist(), strict=True)
        return _Part(
            [{"id": i, "height": height, "width": width} for i, (height, width) in sizes],
            annotated,
            found,
        )

    for images, predictions in run.read_shards():
        numbers = pairs.number_of[images["image_id"].to_numpy()]
        yield part(numbers[(numbers >= 0) & pairs.evaluated[numbers]], predictions)
    absent = np.setdiff1d(np.arange(len(truth.names)), pairs.number_of)
    for at in range(0, len(absent), _TOGETHER):
        yield part(absent[at : at + _TOGETHER], run.schema.empty_table())


def _paired(predictions: pa.Table, number_of: np.ndarray, index_of: np.ndarray) -> pa.Table:
    """Return the predictions on truth's images and classes, with the columns `image` and `k`."""
    image, k = (
        number_of[predictions["image_id"].to_numpy()],
        index_of[predictions["class_id"].to_numpy()],
    )
    rows = predictions.append_column("image", pa.array(image)).append_column("k", pa.array(k))
    return rows.filter(pa.array((image >= 0) & (k >= 0)))


def _detections(kind: str, found: pa.Table) -> list[dict[str, Any]]:
    """Convert detections to pycocotools' format of results, with one kind of shapes only.

    If a mask came with a box, pycocotools would take the size of the object from the box.
    """
    if kind == "boxes":
        own = [{"bbox": box} for box in _xywh(found).tolist()]
    elif kind == "masks":
        columns = (found[name].to_pylist() for name in ("mask_rle", "mask_height", "mask_width"))
        own = [
            {"segmentation": {"counts": rle, "size": [h, w]}}
            for rle, h, w in zip(*columns, strict=True)
        ]
    else:
        rows = found["keypoints"].to_pylist()
        own = [
            {"keypoints": [value for one in row for value in (one["x"], one["y"], 1)]}
            for row in rows
        ]
    common = zip(*(found[name].to_pylist() for name in ("image", "k", "score")), own, strict=True)
    return [
        {"image_id": image, "category_id": k, "score": score} | one
        for image, k, score, one in common
    ]


def _xywh(found: pa.Table) -> np.ndarray:
    """Return (N, 4) xywh boxes. They are float64, so that width and height are not rounded."""
    boxes = read_boxes_xyxy(found).astype(np.float64)
    boxes[:, 2:] -= boxes[:, :2]
    return boxes


def _confuse(confusion: BoxConfusion, part: _Part) -> None:
    """Add the images of a part to the confusion matrix."""
    found = part.found.filter(
        pa.array(part.found["score"].to_numpy() >= np.float32(confusion.score))
    )
    images, k, boxes = found["image"].to_numpy(), found["k"].to_numpy(), _xywh(found)
    annotated: dict[int, list[dict[str, Any]]] = {image["id"]: [] for image in part.images}
    for one in part.truth:
        annotated[one["image_id"]].append(one)
    order = np.argsort(images, kind="stable")
    starts = np.searchsorted(images[order], list(annotated))
    ends = np.searchsorted(images[order], list(annotated), side="right")
    for own, start, end in zip(annotated.values(), starts, ends, strict=True):
        at = order[start:end]
        classes = np.array([one["category_id"] for one in own], np.int64)
        crowd = np.array([one["iscrowd"] for one in own], bool)
        confusion.add(
            classes, np.array([one["bbox"] for one in own]).reshape(-1, 4), crowd, k[at], boxes[at]
        )


def _rows(
    kind: str,
    classes: ClassPairs,
    truth: ObjectTruth,
    n_found: np.ndarray,
    matches: CocoMatches,
    found: PrecisionRecall,
) -> Iterator[dict[str, Any]]:
    """Yield a row of figures for each class."""
    for k, (category, name) in enumerate(zip(classes.ids, classes.names, strict=True)):
        yield {
            "kind": kind,
            "class_id": truth.class_ids[category],
            "class": name,
            "truth": int(matches.n_truth[0, k]),
            "predictions": int(n_found[k]),
            **measure_class(matches, found, k),
        }
