"""Compute average precision and the best score threshold of each class from matches."""

from dataclasses import asdict, dataclass, fields

import numpy as np

from pipeline.results.evaluation.coco_matching import CocoMatches
from pipeline.results.evaluation.result import mean_of_defined

RECALLS = np.linspace(0, 1, 101)


@dataclass(frozen=True)
class PrecisionRecall:
    """Precision and recall as COCO tabulates them.

    A class without objects in a range of sizes has NaN.
    """

    precision: np.ndarray  # (T, R, classes, A) with the highest limit of detections per image
    recall: np.ndarray  # (T, classes, A, M)


def compute_precision_recall(matches: CocoMatches) -> PrecisionRecall:
    """Tabulate precision and recall as COCOeval.accumulate does.

    Precision is first made to decrease monotonically with recall. It is then read at each recall.
    """
    setting = matches.setting
    n_areas, n_classes = matches.n_truth.shape
    t, m = len(setting.thresholds), len(setting.max_detections)
    precision = np.full((t, len(setting.recalls), n_classes, n_areas), np.nan)
    recall = np.full((t, n_classes, n_areas, m), np.nan)
    for k in range(n_classes):
        own = matches.of_class(k)
        for a in np.flatnonzero(matches.n_truth[:, k]):
            n_truth = matches.n_truth[a, k]
            right = matches.matched[a, :, own] & ~matches.ignored[a, :, own]  # (T, D of the class)
            wrong = ~matches.matched[a, :, own] & ~matches.ignored[a, :, own]
            for i, most in enumerate(setting.max_detections):
                recall[:, k, a, i] = (
                    np.count_nonzero(right[:, matches.rank[own] < most], axis=1) / n_truth
                )
            for i in range(t):
                precision[i, :, k, a] = interpolate_precision(
                    right[i], wrong[i], n_truth, setting.recalls
                )
    return PrecisionRecall(precision, recall)


def interpolate_precision(
    right: np.ndarray, wrong: np.ndarray, n_truth: int, recalls: np.ndarray = RECALLS
) -> np.ndarray:
    """Return (recalls,) the highest precision at each recall or any higher recall.

    It is 0 at recalls that the detections do not reach.

    Args:
        right: (D,) bool, whether each detection is correct, best score first.
        wrong: (D,) bool, whether each detection is false, in the same order.
        n_truth: number of objects to find.
        recalls: recalls at which to read the precision, ascending.
    """
    if not len(right):
        return np.zeros(len(recalls))
    hits, misses = np.cumsum(right, dtype=float), np.cumsum(wrong, dtype=float)
    precision = hits / (hits + misses + np.spacing(1))
    falling = np.maximum.accumulate(precision[::-1])[::-1]
    return np.append(falling, 0.0)[np.searchsorted(hits / n_truth, recalls, side="left")]


def summarize_metrics(matches: CocoMatches, found: PrecisionRecall) -> dict[str, float | None]:
    """Return the figures of COCO's summary by name, such as `ap`, `ap50` and `ar_small`.

    `ar_max10` is the average recall with at most 10 detections per image and class. A figure that
    is not defined is None.
    """
    setting = matches.setting

    def of(values: np.ndarray, threshold: float | None, area: str) -> float | None:
        at = slice(None) if threshold is None else np.isclose(setting.thresholds, threshold)
        return mean_of_defined(values[at][..., setting.areas.index(area)])

    wanted = {"": (None, "all"), "50": (0.5, "all"), "75": (0.75, "all")}
    wanted |= {f"_{area}": (None, area) for area in setting.areas if area != "all"}
    result = {f"ap{name}": of(found.precision, *which) for name, which in wanted.items()}
    if len(setting.max_detections) > 1:
        for i, most in enumerate(setting.max_detections):
            result[f"ar_max{most}"] = of(found.recall[..., i], None, "all")
        wanted = {name: which for name, which in wanted.items() if name.startswith("_")}
    return result | {
        f"ar{name}": of(found.recall[..., -1], *which) for name, which in wanted.items()
    }


@dataclass(frozen=True)
class BestThreshold:
    """Precision and recall of the detections whose score is at least `threshold`."""

    f1: float
    threshold: float
    precision: float
    recall: float


def find_best_threshold(
    scores: np.ndarray, right: np.ndarray, wrong: np.ndarray, n_truth: int
) -> BestThreshold | None:
    """Return the score threshold with the highest F1; None if no detection is correct.

    F1 = 2 TP / (2 TP + FP + FN) (van Rijsbergen, Information Retrieval, 1979, ch. 7). Every score
    that occurs is tried. Of thresholds with equal F1, the highest is returned. The result is exact:
    COCO matches detections from the best score down, so a threshold does not change the matches of
    higher scores.

    Args:
        scores: (D,) best score first.
        right: (D,) bool, whether each detection is correct.
        wrong: (D,) bool, whether each detection is false.
        n_truth: number of objects to find.
    """
    last = (
        np.flatnonzero(np.r_[scores[1:] != scores[:-1], True]) if len(scores) else np.zeros(0, int)
    )
    hits, misses = np.cumsum(right)[last], np.cumsum(wrong)[last]
    if not len(hits) or not hits[-1]:
        return None
    f1 = 2 * hits / (hits + misses + n_truth)  # n_truth = TP + FN
    best = int(f1.argmax())
    kept = hits[best] + misses[best]
    return BestThreshold(
        float(f1[best]),
        float(scores[last[best]]),
        float(hits[best] / kept),
        float(hits[best] / n_truth),
    )


def measure_class(matches: CocoMatches, found: PrecisionRecall, k: int) -> dict[str, float | None]:
    """Return ap, ap50, ap75 and the best threshold of class k, for objects of all sizes.

    The threshold is the best one at IoU 0.5 (OKS 0.5 for keypoints).
    """
    own, n_truth = matches.of_class(k), int(matches.n_truth[0, k])
    matched, ignored = matches.matched[0, 0, own], matches.ignored[0, 0, own]  # all sizes, IoU 0.5
    best = find_best_threshold(
        matches.scores[own], matched & ~ignored, ~matched & ~ignored, n_truth
    )
    ap = {"ap": found.precision, "ap50": found.precision[:1], "ap75": found.precision[5:6]}
    return {
        name: mean_of_defined(values[:, :, k, 0]) for name, values in ap.items()
    } | make_threshold_columns(best)


def make_threshold_columns(best: BestThreshold | None) -> dict[str, float | None]:
    """Return the best threshold as columns of a class's row; all None if there is none."""
    return asdict(best) if best else {field.name: None for field in fields(BestThreshold)}
