"""Classes of whole images beside their true ones."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.boxes import rank_within
from pipeline.errors import ConfigError, shorten
from pipeline.evaluation.label_files import read_labels
from pipeline.evaluation.pairing import filter_notes, pair_images
from pipeline.evaluation.precision import RECALLS, best_columns, best_f1, interpolated
from pipeline.evaluation.result import Confusion, Evaluation, mean
from pipeline.finished import FinishedRun

_TOPS = (1, 5)


def evaluate_labels(run: FinishedRun, path: Path) -> Evaluation:
    """Raises ConfigError."""
    truth = read_labels(run, path)
    pairs = pair_images(run, truth["key"].combine_chunks())
    label_of, same, notes = _class_ids(truth["label"].combine_chunks(), run.categories)
    image, k, score, rank = _found(run, pairs.number_of, same)
    hit = k == label_of[image]
    kept = _kept(run)
    right = {most: _any(image[hit & (rank < most)], len(label_of)) for most in _TOPS if most <= kept}
    short = [f"top5 is not known: the run kept {kept} class(es) an image (top_k)."] if kept < _TOPS[-1] else []
    present = np.union1d(label_of[label_of >= 0], k)
    rows = [_row(run.categories, c, label_of == c, right, k == c, score, hit) for c in present.tolist()]
    top = {f"top{most}": float(right[most].mean()) if most in right else None for most in _TOPS}
    return Evaluation(
        kind="labels",
        figures={"labels": top | {"mean_class_accuracy": mean(np.array([one["top1"] for one, _ in rows], float))}},
        classes=[one for one, _ in rows],
        confusion=_confusion(run.categories, present, label_of, image[rank == 0], k[rank == 0]),
        images=pairs.images,
        settings={"kept_per_image": kept},
        notes=(*pairs.notes, *notes, *short, *filter_notes(run)),
        curves=np.stack([curve for _, curve in rows], axis=1),
    )


def _class_ids(labels: pa.Array, categories: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """(class id of each label, -1 for a label that the model does not know; the id that each class id is counted as; what is
    to be said). A label is a class's name, case apart, or else its id. Names that several classes have are one class, unless
    ids tell them apart."""
    first: dict[str, int] = {}
    same = np.array([first.setdefault(name.casefold(), i) for i, name in enumerate(categories)])
    encoded = labels.dictionary_encode()
    given = encoded.dictionary.to_pylist()
    by_name = {label: first[label.casefold()] for label in given if label.casefold() in first}
    by_id = {label: int(label) for label in given if label not in by_name and label.isdecimal() and int(label) < len(same)}
    unknown = sorted(set(given) - set(by_name) - set(by_id))
    if len(unknown) == len(given):
        raise ConfigError(
            f"None of truth's labels is a class of the run: {shorten(unknown, 5)}. Expected names such as "
            f"{shorten(categories, 5)}, or class ids from 0 to {len(categories) - 1}."
        )
    if not by_name:
        same = np.arange(len(categories))
    shared = sorted({categories[i] for i in np.flatnonzero(same != np.arange(len(same)))})
    notes = (
        [f"{len(unknown)} of truth's labels are unknown to the model, so never found: {shorten(unknown)}."]
        if unknown
        else []
    )
    notes += [f"Several classes have one name and count as one: {shorten(shared)}. Ids tell them apart."] if shared else []
    ids = np.array([by_name.get(label, by_id.get(label, -1)) for label in given])
    return ids[encoded.indices.to_numpy()], same, notes


def _found(run: FinishedRun, number_of: np.ndarray, same: np.ndarray) -> list[np.ndarray]:
    """Image number, class, score and rank in the image of each prediction on an image of truth."""
    parts = []
    for shard_id in run.shard_ids:
        rows = run.table("predictions", shard_id, ["image_id", "class_id", "score"])
        ids, k, score = (rows[name].to_numpy() for name in ("image_id", "class_id", "score"))
        paired = number_of[ids] >= 0
        rank = rank_within(ids, score)
        parts.append((number_of[ids][paired], same[k][paired], score[paired], rank[paired]))
    return [np.concatenate(column) for column in zip(*parts, strict=True)]


def _kept(run: FinishedRun) -> int:
    """How many classes of an image the run has kept at most."""
    if "rank" not in run.schema.names:
        return 1
    most: int = run.record["fingerprint_of"]["filters"]["top_k"] or len(run.categories)
    return len(run.categories) if most >= len(run.categories) else most


def _any(numbers: np.ndarray, n: int) -> np.ndarray:
    """(n,) bool: which numbers occur."""
    return np.bincount(numbers, minlength=n) > 0


def _row(
    categories: tuple[str, ...],
    c: int,
    own: np.ndarray,
    right: dict[int, np.ndarray],
    found: np.ndarray,
    score: np.ndarray,
    hit: np.ndarray,
) -> tuple[dict[str, Any], np.ndarray]:
    """A class's figures, and its curve: one class against the rest, over every prediction that the run kept."""
    order = np.flatnonzero(found)[np.argsort(-score[found], kind="stable")]
    n_truth = int(own.sum())
    best = best_f1(score[order], hit[order], ~hit[order], n_truth)
    curve = interpolated(hit[order], ~hit[order], n_truth) if n_truth else np.full(len(RECALLS), np.nan)
    top = {f"top{most}": float(right[most][own].mean()) if n_truth and most in right else None for most in _TOPS}
    row = {"kind": "labels", "class_id": c, "class": categories[c], "truth": n_truth, "predictions": len(order)} | top
    return row | best_columns(best), curve


def _confusion(
    categories: tuple[str, ...], present: np.ndarray, label_of: np.ndarray, image: np.ndarray, k: np.ndarray
) -> Confusion:
    """`image`, `k`: the best class of each image that has one. Labels that the model does not know have no row."""
    nothing = len(present)
    best = np.full(len(label_of), nothing)
    best[image] = np.searchsorted(present, k)
    known = label_of >= 0
    counts = np.zeros((nothing + 1, nothing + 1), np.int64)
    np.add.at(counts, (np.searchsorted(present, label_of[known]), best[known]), 1)
    return Confusion((*(categories[c] for c in present), "no prediction"), counts, "images")
