"""Evaluate the classes of whole images against their true classes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.config.task_classes import find_task
from pipeline.core.errors import ConfigError, shorten_list
from pipeline.core.name_matching import KnownNames
from pipeline.core.task_roles import Content
from pipeline.ops.boxes import rank_within_groups
from pipeline.results.evaluation.average_precision import (
    RECALLS,
    find_best_threshold,
    interpolate_precision,
    make_threshold_columns,
)
from pipeline.results.evaluation.label_files import read_label_file
from pipeline.results.evaluation.pairing import describe_filters, pair_images
from pipeline.results.evaluation.result import Confusion, Evaluation, mean_of_defined
from pipeline.runs.finished_run import FinishedRun

_TOPS = (1, 5)


@dataclass(frozen=True)
class _Found:
    """The predictions on the images that truth has, as columns."""

    image: np.ndarray  # (N,) number of the image in truth
    k: np.ndarray  # (N,) class id
    score: np.ndarray  # (N,)
    rank: np.ndarray  # (N,) rank among the image's predictions; 0 is the best
    hit: np.ndarray  # (N,) bool: whether the class is the image's true class


def evaluate_classification(run: FinishedRun, path: Path) -> Evaluation:
    """Evaluate the classes of images against a table of labels or a folder for each class.

    Raises:
        ConfigError: truth cannot be read, or it has no image or no label in common with the run.
    """
    truth = read_label_file(run, path)
    pairs = pair_images(run, truth["key"].combine_chunks(), by_stem=True)
    label_of, same, notes = _class_ids(truth["label"].combine_chunks(), run.categories)
    label_of = np.where(pairs.evaluated, label_of, -1)
    found = _found(run, pairs.number_of, same, label_of)
    kept = _kept(run)
    right = {
        most: _any(found.image[found.hit & (found.rank < most)], len(label_of))
        for most in _TOPS
        if most <= kept
    }
    short = [f"top5 is not known: the run kept {kept} an image (top_k)."] * (kept < _TOPS[-1])
    present = np.union1d(label_of[label_of >= 0], found.k)
    rows, curves = _rows(run.categories, present, label_of, right, found)
    top = {
        f"top{most}": float(right[most][pairs.evaluated].mean()) if most in right else None
        for most in _TOPS
    }
    return Evaluation(
        kind="labels",
        figures={
            "labels": top
            | {
                "mean_class_accuracy": mean_of_defined(
                    np.array([row["top1"] for row in rows], float)
                )
            }
        },
        classes=rows,
        confusion=_confusion(run.categories, present, label_of, found),
        images=pairs.images,
        settings={"kept_per_image": kept},
        notes=(*pairs.notes, *notes, *short, *describe_filters(run, "classes", "exclude")),
        curves=curves,
    )


def _class_ids(
    labels: pa.Array, categories: tuple[str, ...]
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Find the class id of each label.

    A label is the name of a class, by the rule of `core/name_matching.py`, or a class id. Classes
    with the same name count as one class, unless all labels are ids.

    Returns:
        The class id of each label (-1 if the model does not know the label), the id under which
        each class id is counted, and notes for the user.

    Raises:
        ConfigError: the model knows no label, or a label could be any of several classes.
    """
    first: dict[str, int] = {}
    same = np.array([first.setdefault(name, i) for i, name in enumerate(categories)])
    encoded = labels.dictionary_encode()
    given = encoded.dictionary.to_pylist()
    by_name = _find_labels(given, first)
    by_id = {
        label: int(label)
        for label in given
        if label not in by_name and label.isdecimal() and int(label) < len(same)
    }
    unknown = sorted(set(given) - set(by_name) - set(by_id))
    if len(unknown) == len(given):
        raise ConfigError(
            f"None of truth's labels is a class of the run: {shorten_list(unknown, 5)}. Expected "
            "names such as "
            f"{shorten_list(categories, 5)}, or class ids from 0 to {len(categories) - 1}."
        )
    if not by_name:
        same = np.arange(len(categories))
    shared = sorted(
        {categories[i] for i in same[same != np.arange(len(same))]}
        & {categories[i] for i in by_name.values()}
    )
    notes = [
        f"{len(unknown)} of truth's labels are unknown to the model, so never found: "
        f"{shorten_list(unknown)}."
    ] * bool(unknown)
    notes += [
        f"Several classes have one name and count as one: {shorten_list(shared)}. Ids tell them "
        "apart."
    ] * bool(shared)
    known = {label: same[i] for label, i in (by_name | by_id).items()}
    ids = np.array([known.get(label, -1) for label in given])
    return ids[encoded.indices.to_numpy()], same, notes


def _find_labels(labels: Sequence[str], class_ids: Mapping[str, int]) -> dict[str, int]:
    """Return the class ids of the labels that are names of classes."""
    known = KnownNames(class_ids)
    found = {label: known.find(label) for label in labels}
    for label, names in found.items():
        if len(names) > 1:
            raise ConfigError(
                f"truth's label {label!r} could be any of the run's classes "
                f"{', '.join(map(repr, names))}. Write one of them as it is."
            )
    return {label: class_ids[names[0]] for label, names in found.items() if names}


def _found(
    run: FinishedRun, number_of: np.ndarray, same: np.ndarray, label_of: np.ndarray
) -> _Found:
    """Read the predictions on the images that truth has.

    If an image has predictions of several classes that count as one class, only the best of them is
    kept.

    Args:
        number_of: image_id -> number of the image in truth, -1 for none.
        same: class id -> class id under which it is counted.
        label_of: number of the image in truth -> class id of its label, -1 for none.
    """
    parts = []
    for shard_id in run.shard_ids:
        rows = run.read_table("predictions", shard_id, ["image_id", "class_id", "score"])
        ids, k, score = (rows[name].to_numpy() for name in ("image_id", "class_id", "score"))
        rank, image, k = rank_within_groups(ids, score), number_of[ids], same[k]
        order = np.lexsort((rank, k, image))
        first = np.r_[True, (np.diff(image[order]) != 0) | (np.diff(k[order]) != 0)][: len(order)]
        kept = order[first & (image[order] >= 0)]
        parts.append((image[kept], k[kept], score[kept], rank[kept]))
    image, k, score, rank = (np.concatenate(column) for column in zip(*parts, strict=True))
    return _Found(image, k, score, rank, k == label_of[image])


def _kept(run: FinishedRun) -> int:
    """Return the largest number of classes that the run kept for each image."""
    if Content.RANKS not in find_task(run.task).contents:
        return 1
    return run.record["fingerprint_of"]["filters"]["top_k"] or len(run.categories)


def _any(numbers: np.ndarray, n: int) -> np.ndarray:
    """Return (n,) bool: whether each number from 0 to n - 1 occurs in `numbers`."""
    return np.bincount(numbers, minlength=n) > 0


def _rows(
    categories: tuple[str, ...],
    present: np.ndarray,
    label_of: np.ndarray,
    right: dict[int, np.ndarray],
    found: _Found,
) -> tuple[list[dict[str, Any]], np.ndarray]:
    """Return a row and a precision-recall curve for each class that truth or the run has.

    A curve evaluates one class against all others. It uses all predictions that the run kept.

    Returns:
        The rows, and the curves (101, classes).
    """
    order = np.lexsort((-found.score, found.k))
    score, hit, k = found.score[order], found.hit[order], found.k[order]
    n_truth = np.bincount(label_of[label_of >= 0], minlength=len(categories))
    n_right = {
        most: np.bincount(label_of[hits], minlength=len(categories)) for most, hits in right.items()
    }
    rows, curves = [], np.full((len(RECALLS), len(present)), np.nan)
    for i, c in enumerate(present.tolist()):
        own, n = slice(*np.searchsorted(k, [c, c + 1]).tolist()), int(n_truth[c])
        top = {
            f"top{most}": float(n_right[most][c] / n) if n and most in right else None
            for most in _TOPS
        }
        best = find_best_threshold(score[own], hit[own], ~hit[own], n)
        row = {
            "kind": "labels",
            "class_id": c,
            "class": categories[c],
            "truth": n,
            "predictions": own.stop - own.start,
        }
        rows.append(row | top | make_threshold_columns(best))
        if n:
            curves[:, i] = interpolate_precision(hit[own], ~hit[own], n)
    return rows, curves


def _confusion(
    categories: tuple[str, ...], present: np.ndarray, label_of: np.ndarray, found: _Found
) -> Confusion:
    """Count how often each true class was predicted as each class.

    Only the best class of each image counts. Labels that the model does not know are left out.
    """
    nothing, first = len(present), found.rank == 0
    best = np.full(len(label_of), nothing)
    best[found.image[first]] = np.searchsorted(present, found.k[first])
    known = label_of >= 0
    counts = np.zeros((nothing + 1, nothing + 1), np.int64)
    np.add.at(counts, (np.searchsorted(present, label_of[known]), best[known]), 1)
    return Confusion((*(categories[c] for c in present), "no prediction"), counts, "images")
