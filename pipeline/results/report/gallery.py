"""Choose the images of a run that most need review, and make the data of the page's gallery."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core.schema import BOX_COLUMNS
from pipeline.core.tables import mark_failed
from pipeline.core.task_roles import Content

MOST_ROWS = 100  # largest number of predictions that the page lists for an image, best first
IMAGE_COLUMNS = ("image_id", "key", "width", "height", "status", "error", "n_predictions")
PREDICTION_COLUMNS = ("image_id", "class_id", "score")
SHOWN_CONTENTS = {Content.BOXES: BOX_COLUMNS, Content.AREAS: ("share",)}  # content -> its columns
_FAILED, _NOTHING = -1.0, np.inf


class Gallery:
    """Selection of the `most` images that most need review, among all images that are added.

    Failed images come first. Images with predictions follow, ordered by their best score, lowest
    first. Images without predictions and duplicates come last. Failed images take at most half of
    the gallery if there are enough others.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._images: list[pa.Table] = []
        self._predictions: list[pa.Table] = []
        self._waiting = 0  # images added since the last cut
        self._limit = _NOTHING  # images with a higher `concern` can no longer be selected

    def add(self, images: pa.Table, predictions: pa.Table) -> None:
        """Add a shard's rows, in input order."""
        counts = images["n_predictions"].fill_null(0).to_numpy()
        concern = _concern(images, predictions["score"].to_numpy(), counts)
        keep = concern <= self._limit
        place = np.arange(len(predictions)) - np.repeat(np.cumsum(counts) - counts, counts)
        self._images.append(
            images.append_column("concern", pa.array(concern)).filter(pa.array(keep))
        )
        self._predictions.append(
            predictions.filter(pa.array(np.repeat(keep, counts) & (place < MOST_ROWS)))
        )
        self._waiting += int(keep.sum())
        if self._waiting > 2 * self.most:
            self._cut()

    def shown(self) -> tuple[pa.Table, pa.Table]:
        """Return (images, predictions) of the selection, in the order of review.

        The predictions are grouped by image, in the same order. The column `listed` of images is
        the number of an image's predictions in that table.
        """
        self._cut()
        images, predictions = self._images[0], self._predictions[0]
        n_failed = int((images["concern"].to_numpy() < 0).sum())
        others = len(images) - n_failed
        n_failed = min(n_failed, max(self.most // 2, self.most - others))
        images = pa.concat_tables(
            [images.slice(0, n_failed), images.slice(len(images) - others, self.most - n_failed)]
        )
        ids, image_ids = predictions["image_id"].to_numpy(), images["image_id"].to_numpy()
        first, end = (
            np.searchsorted(ids, image_ids, "left"),
            np.searchsorted(ids, image_ids, "right"),
        )
        counts = end - first
        at = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts - first, counts)
        return images.append_column("listed", pa.array(counts)), predictions.take(pa.array(at))

    def _cut(self) -> None:
        """Drop the images that can no longer be among the `most`."""
        images, predictions = pa.concat_tables(self._images), pa.concat_tables(self._predictions)
        images = images.take(
            np.lexsort((images["image_id"].to_numpy(), images["concern"].to_numpy()))
        )
        failed = images["concern"].to_numpy() < 0
        others = images.filter(pa.array(~failed)).slice(0, self.most)
        if len(others) == self.most:
            self._limit = others["concern"][-1].as_py()
        images = pa.concat_tables([images.filter(pa.array(failed)).slice(0, self.most), others])
        self._images = [images]
        self._predictions = [
            predictions.filter(pc.is_in(predictions["image_id"], images["image_id"]))
        ]
        self._waiting = 0


def _concern(images: pa.Table, scores: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return (images,) float64 sort keys: _FAILED, the best score, or _NOTHING."""
    concern = np.full(len(images), _NOTHING)
    some = counts > 0
    if some.any():
        concern[some] = np.maximum.reduceat(scores, (np.cumsum(counts) - counts)[some])
    concern[mark_failed(images).to_numpy()] = _FAILED
    return concern


def make_gallery_data(
    images: pa.Table,
    predictions: pa.Table,
    overlays: Sequence[str | None],
    file_column: str | None = None,
    time_column: str | None = None,
) -> Mapping[str, Any]:
    """Return the data of the page's script.

    The data are lists, one for each column, because they take less space than objects. Scores are
    in units of 1/10000 and boxes in whole pixels.

    Args:
        overlays: the name below overlays/ of each image's overlay, None if it has none.
        file_column: the column with the file that holds an image.
        time_column: the column with the seconds at which an image begins in its file.
    """
    keys, errors = images["key"].to_pylist(), images["error"].to_pylist()
    statuses = images["status"].cast(pa.string()).to_pylist()
    data: dict[str, Any] = {
        "key": keys,
        "status": statuses,
        "error": {i: error for i, error in enumerate(errors) if error},
        "width": images["width"].fill_null(0).to_pylist(),
        "height": images["height"].fill_null(0).to_pylist(),
        "n": images["n_predictions"].to_pylist(),
        "listed": images["listed"].to_pylist(),
        # To save space, 1 stands for a name that equals the key.
        "overlay": [1 if name == key else name for name, key in zip(overlays, keys, strict=True)],
        "class": predictions["class_id"].to_pylist(),
        "score": np.round(predictions["score"].to_numpy().astype(np.float64) * 10_000)
        .astype(np.int64)
        .tolist(),
    }
    if set(BOX_COLUMNS) <= set(predictions.schema.names):
        data["box"] = (
            np.column_stack([predictions[name].to_numpy() for name in BOX_COLUMNS])
            .round()
            .astype(int)
            .ravel()
            .tolist()
        )
    if "share" in predictions.schema.names:
        data["share"] = (
            np.round(predictions["share"].to_numpy().astype(np.float64) * 10_000)
            .astype(np.int64)
            .tolist()
        )
    if file_column is not None:
        data["file"] = images[file_column].to_pylist()
    if time_column is not None:
        data["seconds"] = images[time_column].to_pylist()
    return data
