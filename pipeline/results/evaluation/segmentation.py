"""Evaluate the classes of pixels against label maps or masks, to measure mIoU."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core.errors import ConfigError
from pipeline.core.tables import select_usable
from pipeline.ops.masks import IGNORED_LABEL, make_label_map
from pipeline.results.evaluation.pairing import (
    ImagePairs,
    describe_filters,
    pair_images,
)
from pipeline.results.evaluation.region_truth import read_region_truth
from pipeline.results.evaluation.result import Confusion, Evaluation, mean_of_defined, nan_to_none
from pipeline.runs.finished_run import FinishedRun


def evaluate_segmentation(run: FinishedRun, path: Path) -> Evaluation:
    """Evaluate regions against label maps, or against objects with masks.

    Raises:
        ConfigError: truth has no usable label maps of the run's images, or the run has too many
            classes for an indexed PNG file.
    """
    if len(run.categories) > IGNORED_LABEL:
        raise ConfigError(
            f"An indexed PNG file tells {IGNORED_LABEL} classes and {IGNORED_LABEL} for none; the "
            f"run has {len(run.categories)}."
        )
    truth = read_region_truth(run, path)
    names = pa.array(truth.names, pa.string())
    pairs = pair_images(run, names, truth.sizes_hw, by_stem=True, any_suffix=truth.any_suffix)
    counts = np.zeros((len(truth.classes) + 1,) * 2, np.int64)
    for number, found in _label_maps(run, pairs):
        labels = truth.read(number, None if found is None else found.shape[:2])
        counted = labels != IGNORED_LABEL
        answers = found[counted] if found is not None else len(truth.classes)
        np.add.at(counts, (labels[counted], answers), 1)
    if not counts.any():
        raise ConfigError(
            f"truth={path}: every pixel is {IGNORED_LABEL}, which does not count. Expected "
            "class ids in some."
        )
    rows = _rows(counts, truth.classes)
    known = counts[:-1, :-1]
    return Evaluation(
        kind="regions",
        figures={
            "regions": {
                "miou": mean_of_defined(np.array([row["iou"] for row in rows], float)),
                "pixel_accuracy": float(np.trace(known) / max(counts.sum(), 1)),
                "mean_class_accuracy": mean_of_defined(
                    np.array([row["recall"] for row in rows], float)
                ),
            }
        },
        classes=rows,
        confusion=Confusion((*truth.classes, "no prediction"), counts, "pixels"),
        images=pairs.images,
        settings={"ignored_value": IGNORED_LABEL},
        notes=(*truth.notes, *pairs.notes, *describe_filters(run, "classes", "exclude")),
    )


def _label_maps(run: FinishedRun, pairs: ImagePairs) -> Iterator[tuple[int, np.ndarray | None]]:
    """Yield (number in truth, predicted class ids (H, W) uint8) of every evaluated image.

    The class ids are None if the run has no usable image.
    """
    left = pairs.evaluated.copy()
    for images, predictions in run.read_shards():
        for image in select_usable(images).to_pylist():
            number = int(pairs.number_of[image["image_id"]])
            if number >= 0:
                left[number] = False
                rows = predictions.filter(pc.equal(predictions["image_id"], image["image_id"]))
                yield number, make_label_map(rows, (image["height"], image["width"]))
    yield from ((int(number), None) for number in np.flatnonzero(left))


def measure_class_iou(counts: np.ndarray) -> np.ndarray:
    """Return (C,) IoU of each class; NaN for a class that neither side has.

    Args:
        counts: (C, P) number of pixels of class c that were found as p, with P >= C.
    """
    known = counts[:, : len(counts)]
    with np.errstate(invalid="ignore"):
        return np.asarray(
            known.diagonal() / (counts.sum(axis=1) + known.sum(axis=0) - known.diagonal())
        )


def _rows(counts: np.ndarray, categories: tuple[str, ...]) -> list[dict[str, Any]]:
    """Return a row for each class that truth or the run has.

    All figures count pixels: IoU = TP / (TP + FP + FN), F1 (Dice) = 2 TP / (2 TP + FP + FN).
    """
    right, truth, found = counts.diagonal()[:-1], counts.sum(axis=1)[:-1], counts.sum(axis=0)[:-1]
    with np.errstate(invalid="ignore"):
        figures = {
            "iou": measure_class_iou(counts[:-1]),
            "f1": 2 * right / (truth + found),
            "precision": right / found,
            "recall": right / truth,
        }
    return [
        {
            "kind": "regions",
            "class_id": c,
            "class": categories[c],
            "truth": int(truth[c]),
            "predictions": int(found[c]),
        }
        | {name: nan_to_none(values[c]) for name, values in figures.items()}
        for c in np.flatnonzero(truth + found).tolist()
    ]
