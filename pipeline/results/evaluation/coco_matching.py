"""Match detections with annotated objects by pycocotools, in little memory.

Detections are converted to Python objects one shard at a time, because these need much memory.
"""

import io
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pycocotools.cocoeval import COCOeval

IOU_TYPES = {
    "boxes": "bbox",
    "masks": "segm",
    "keypoints": "keypoints",
}  # kind -> COCOeval's iouType


@dataclass(frozen=True)
class CocoParameters:
    """COCO's parameters for the evaluation of one kind of shapes."""

    thresholds: np.ndarray  # (T,) of IoU; of OKS for keypoints
    recalls: np.ndarray  # (R,) at which precision is tabulated
    areas: tuple[str, ...]  # A ranges of object size: all, small ...
    max_detections: tuple[int, ...]  # M limits per image and class, ascending


def read_coco_parameters(kind: str) -> CocoParameters:
    """Return the parameters that pycocotools uses for boxes, masks or keypoints."""
    from pycocotools.cocoeval import Params

    own = Params(iouType=IOU_TYPES[kind])
    return CocoParameters(own.iouThrs, own.recThrs, tuple(own.areaRngLbl), tuple(own.maxDets))


@dataclass(frozen=True)
class CocoMatches:
    """The D detections of all images, sorted by class, then by descending score, then by image.

    COCO counts in this order. An ignored detection counts neither as right nor as wrong, because it
    found a crowd or an object outside the range of sizes.
    """

    setting: CocoParameters
    starts: np.ndarray  # (classes + 1,) class k is the slice starts[k]:starts[k + 1]
    scores: np.ndarray  # (D,)
    rank: np.ndarray  # (D,) rank by score within its image and class; 0 is the best
    matched: np.ndarray  # (A, T, D) bool
    ignored: np.ndarray  # (A, T, D) bool
    n_truth: np.ndarray  # (A, classes) number of objects to find

    def of_class(self, k: int) -> slice:
        """Return the slice of the detections of class k."""
        return slice(self.starts[k], self.starts[k + 1])


class CocoMatcher:
    """Matcher of detections with objects. Images are added in any order, each one once."""

    def __init__(self, kind: str, n_classes: int) -> None:
        self.kind, self.setting = kind, read_coco_parameters(kind)
        self.n_truth = np.zeros((len(self.setting.areas), n_classes), np.int64)
        a, t = len(self.setting.areas), len(self.setting.thresholds)
        none = np.zeros((a, t, 0), dtype=bool)
        self.parts: list[tuple[np.ndarray, ...]] = [
            (*np.zeros((2, 0), np.int64), np.zeros(0), np.zeros(0, int), none, none)
        ]

    def add(
        self,
        images: Sequence[dict[str, Any]],
        truth: list[dict[str, Any]],
        found: list[dict[str, Any]],
    ) -> None:
        """Match the detections of some images.

        Args:
            images: dicts with `id`, `height` and `width`.
            truth: annotations in COCO's format. `category_id` is the position of the class.
            found: detections in the same format, with `score` and one of `bbox`, `segmentation` and
                `keypoints`.
        """
        present = sorted({shape["category_id"] for shape in (*truth, *found)})
        if not present:
            return
        evaluated = _evaluated(self.kind, images, present, truth, found)
        by_class = np.array(evaluated.evalImgs, dtype=object).reshape(
            len(present), len(self.setting.areas), -1
        )
        for k, of_class in zip(present, by_class, strict=True):
            self._keep(k, of_class[:, [entry is not None for entry in of_class[0]]])

    def _keep(self, k: int, entries: np.ndarray) -> None:
        """Store the matches of one class.

        Args:
            k: position of the class.
            entries: (A, images) the class's `COCOeval.evalImgs`. All ranges of size list the same
                detections of an image.
        """
        first = entries[0]
        counts = [len(one["dtScores"]) for one in first]
        image = np.repeat([one["image_id"] for one in first], counts)
        rank = np.concatenate([np.arange(count) for count in counts])
        scores = np.concatenate([one["dtScores"] for one in first])
        matched, ignored = (
            np.stack(
                [np.concatenate([one[name] for one in area], axis=1) for area in entries]
            ).astype(bool)
            for name in ("dtMatches", "dtIgnore")  # dtMatches: id of the object, 0 for none
        )
        self.parts.append((np.full(len(scores), k), image, scores, rank, matched, ignored))
        self.n_truth[:, k] += np.array(
            [sum(np.count_nonzero(one["gtIgnore"] == 0) for one in area) for area in entries]
        )

    def matches(self) -> CocoMatches:
        """Return the matches of all images that were added."""
        k, image, scores, rank, matched, ignored = (
            np.concatenate(column, axis=-1) for column in zip(*self.parts, strict=True)
        )
        order = np.lexsort((rank, image, -scores, k))
        starts = np.searchsorted(k[order], np.arange(self.n_truth.shape[1] + 1))
        return CocoMatches(
            self.setting,
            starts,
            scores[order],
            rank[order],
            matched[..., order],
            ignored[..., order],
            self.n_truth,
        )


def _evaluated(
    kind: str,
    images: Sequence[dict[str, Any]],
    present: list[int],
    truth: list[dict],
    found: list[dict],
) -> "COCOeval":
    """Return a COCOeval that has run `evaluate`. Its progress messages are discarded."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    base = {"images": list(images), "categories": [{"id": k} for k in present]}
    # Ids begin at 1, because COCOeval uses the id 0 for "no match".
    numbered = [one | {"id": number} for number, one in enumerate(truth, start=1)]
    with redirect_stdout(io.StringIO()):
        objects, detections = COCO(), COCO()
        objects.dataset = base | {"annotations": numbered}
        objects.createIndex()
        detections.dataset = base | {"annotations": []}
        detections.createIndex()
        evaluated = COCOeval(
            objects, objects.loadRes(found) if found else detections, IOU_TYPES[kind]
        )
        evaluated.evaluate()
    return evaluated
