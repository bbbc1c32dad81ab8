"""Queries on the committed tables `images` and `predictions`, without a model and without torch."""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core.types import Status

_ERRORS = pa.array([status.value for status in Status if status.is_error])


def select_usable(images: pa.Table) -> pa.Table:
    """Return the images whose status is ok."""
    return images.filter(_mark_status(Status.OK, images))


def mark_failed(images: pa.Table) -> pa.ChunkedArray:
    """Return (N,) bool, true for rows with an error. A duplicate is neither usable nor failed."""
    return pc.is_in(images["status"].cast(pa.string()), _ERRORS)


def mark_duplicates(images: pa.Table) -> pa.ChunkedArray:
    """Return (N,) bool, true for images that were skipped as duplicates of another image."""
    return _mark_status(Status.DUPLICATE, images)


def _mark_status(status: Status, images: pa.Table) -> pa.ChunkedArray:
    return pc.equal(images["status"].cast(pa.string()), status.value)


def group_by_image(
    images: pa.Table, predictions: pa.Table
) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Yield each image row of a shard with its prediction rows, in input order.

    Failed images are included, with no prediction rows.
    """
    rows = predictions.to_pylist()
    start = 0
    for image in images.to_pylist():
        end = start + (image["n_predictions"] or 0)
        yield image, rows[start:end]
        start = end
