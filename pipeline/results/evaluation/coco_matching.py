"""Match detections with objects by COCO's own library, in little memory.

A shard's detections are Python objects only while they are matched.
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
    """How COCO evaluates a kind: T thresholds of IoU (OKS for keypoints), A areas, R recalls."""

    thresholds: np.ndarray  # (T,)
    recalls: np.ndarray  # (R,)
    areas: tuple[str, ...]  # all, small ...
    max_detections: tuple[int, ...]  # per image and class, ascending


def read_coco_parameters(kind: str) -> CocoParameters:
    """Return pycocotools' own parameters for boxes, masks or keypoints."""
    from pycocotools.cocoeval import Params

    own = Params(iouType=IOU_TYPES[kind])
    return CocoParameters(own.iouThrs, own.recThrs, tuple(own.areaRngLbl), tuple(own.maxDets))


@dataclass(frozen=True)
class CocoMatches:
    """D detections of all images, sorted by class, then best score first, then by image.

    COCO counts in this order. An ignored detection is neither right nor wrong: it found a crowd, or
    an object of another size.
    """

    setting: CocoParameters
    starts: np.ndarray  # (classes + 1,) detections of class k are starts[k] .. starts[k + 1]
    scores: np.ndarray  # (D,)
    rank: np.ndarray  # (D,) within its image and class, 0 is the best
    matched: np.ndarray  # (A, T, D) bool
    ignored: np.ndarray  # (A, T, D) bool
    n_truth: np.ndarray  # (A, classes) objects that are to be found

    def of_class(self, k: int) -> slice:
        """Return where the detections of class k are."""
        return slice(self.starts[k], self.starts[k + 1])


class CocoMatcher:
    """Matches images that are added in any order, each once."""

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
            images: dicts with id, height, width.
            truth: annotations in COCO's format, with `image_id`, and the class's position as
                `category_id`.
            found: the same for detections, with `score` and bbox, segmentation or keypoints.
        """
        present = sorted({one["category_id"] for one in (*truth, *found)})
        if not present:
            return
        evaluated = _evaluated(self.kind, images, present, truth, found)
        by_class = np.array(evaluated.evalImgs, dtype=object).reshape(
            len(present), len(self.setting.areas), -1
        )
        for k, of_class in zip(present, by_class, strict=True):
            self._keep(k, of_class[:, [one is not None for one in of_class[0]]])

    def _keep(self, k: int, entries: np.ndarray) -> None:
        """Keep what COCOeval found for one class. `entries` (A, images) are its `evalImgs`.

        The detections of an image are the same ones in every area.
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
            for name in ("dtMatches", "dtIgnore")  # of matches: the object's id, 0 for none
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
    """Return a COCOeval after its `evaluate`, whose progress messages are dropped."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    base = {"images": list(images), "categories": [{"id": k} for k in present]}
    # numbered from 1: COCOeval takes the id 0 for "no match"
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
